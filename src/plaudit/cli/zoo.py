"""`plaudit zoo`: the published systems with their verdicts; `plaudit zoo run NAME` puts one to the test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from plaudit.cli.workers import RayOption, where
from plaudit.core.errors import BadInput
from plaudit.zoo.contract import Scale, System, ZooResult
from plaudit.zoo.lab import run_system
from plaudit.zoo.registry import RESULTS, find, systems
from plaudit.zoo.table import HEADER, needed, rows

COLOUR = {"holds": "green", "does not hold": "red", "inconclusive": "yellow", "not run": "bright_black"}


@dataclass(frozen=True, kw_only=True)
class ZooArgs:
    """Published systems as experiments on the parts of plaudit, with verdicts computed from intervals.

    Examples: plaudit zoo; plaudit zoo run starc --scale smoke; plaudit zoo run starc -- --mdps 50 --steps 8
    """

    action: tyro.conf.Positional[Literal["list", "run"]] = "list"
    """`list` shows all systems, `run NAME` runs one."""
    name: tyro.conf.Positional[str | None] = None
    """The system to run: its name or number."""
    options: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="-- OPTIONS")] = ()
    """Options of the system itself, after --; `plaudit zoo run NAME -- help` lists them."""
    names: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the bare names, one a line."""
    scale: Scale = "small"
    """smoke: seconds, proves that it runs. small: the honest replication, up to an hour. paper: the paper's size."""
    seeds: int | None = None
    """How many independent repetitions, instead of the scale's own number."""
    seed: int = 0
    """The root of all randomness."""
    out: Path | None = None
    """Where the result goes: results by default, results/smoke at that scale."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "cpu"
    """Where the learners live, such as cpu or cuda; the result says so."""
    ray: RayOption = None
    """Run the units on Ray, with the same numbers: on all cores of this machine, on a NUMBER of them, or on the
    cluster at an ADDRESS (auto, or host:port)."""


def zoo(args: ZooArgs) -> int:
    """Lists the systems, or runs one; returns the exit code."""
    if args.action == "run":
        if args.name is None:
            raise BadInput("name", expected="the system to run", received="none", fix="plaudit zoo lists them")
        return _run(find(args.name), args)
    if args.names:
        print("\n".join(s.name for s in systems()))
        return 0
    _list(args.out or RESULTS)
    return 0


def _list(folder: Path) -> None:
    table = Table(title=None, header_style="bold", box=None, pad_edge=False)
    for column in HEADER:
        table.add_column(column)
    for *cells, verdict, date in rows(folder):
        table.add_row(*cells, f"[{COLOUR[verdict]}]{verdict}[/]", date)
    console = Console(highlight=False)
    console.print(table)
    console.print("\n[bright_black]plaudit zoo run NAME runs one; its result and figure go to results/[/]")


def _run(system: System, args: ZooArgs) -> int:
    config = system.scales[args.scale]
    if args.options:
        words = ["--help"] if args.options == ("help",) else list(args.options)
        config = tyro.cli(type(config), default=config, args=words, prog=f"plaudit zoo run {system.name} --")
    out = args.out or (RESULTS / "smoke" if args.scale == "smoke" else RESULTS)
    console = Console(highlight=False)
    console.print(f"[bold]{system.number:02d} {escape(system.title)}[/] · scale {args.scale}")
    console.print(f"[bright_black]claim:[/] {escape(system.claim)}\n")
    columns = (TextColumn("{task.description:<32}"), BarColumn(bar_width=30), TaskProgressColumn(),
               TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1000)

        def show(done: float, text: str) -> None:
            bar.update(task, completed=round(1000 * done), description=text[:32])

        result = run_system(system, scale=args.scale, seeds=args.seeds, config=config, out=out, seed=args.seed,
                            progress=show, ray=where(args.ray), device=args.device)
    _report(console, result, out)
    return 0


def _report(console: Console, result: ZooResult, out: Path) -> None:
    arms = Table("arm", "metric", "value", header_style="bold", box=None, pad_edge=False)
    for arm in result.arms:
        name = f"[bright_black]{escape(arm.name)}[/]" if arm.baseline else escape(arm.name)
        arms.add_row(name, escape(arm.metric), escape(str(arm.value)))
    criteria = Table("criterion", "needed", "found", "verdict", header_style="bold", box=None, pad_edge=False)
    for c in result.criteria:
        criteria.add_row(escape(c.says), needed(c), escape(str(c.value)), f"[{COLOUR[c.verdict]}]{c.verdict}[/]")
    console.print(arms)
    console.print()
    console.print(criteria)
    stem = result.name if result.scale != "paper" else f"{result.name}-paper"
    console.print(f"\nverdict: [bold {COLOUR[result.verdict]}]{result.verdict}[/] · {result.seconds:.0f} s · "
                  f"{escape(result.place)}\n{escape(str(out / stem))}.json and .png", soft_wrap=True)
