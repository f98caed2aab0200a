"""`plaudit audit-record`: measures what the checks find and how often they cry wolf, and writes it down."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plaudit.cli.workers import RayOption, where
from plaudit.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class AuditRecordArgs:
    """Runs all checks on the flaw collection and on the healthy set, and writes the rates of each check.

    Every audit is kept as soon as it is finished: a run that was killed goes on, and several shards may share a folder.

    Examples: plaudit audit-record --effort 1; plaudit audit-record --shard 2/8; plaudit audit-record --assemble
    """

    kind: Literal["control", "text"] = "control"
    """Rewards of environments, or of texts (minutes; results/audit-record-text.json)."""
    effort: Annotated[tuple[float, ...], tyro.conf.arg(metavar="X ...")] = (1.0, 5.0)
    """Multiples of the default effort."""
    names: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")] = None
    """Only these rewards, flaw:NAME or healthy:NAME; the whole collection by default."""
    shard: Annotated[str | None, tyro.conf.arg(metavar="K/N", help_behavior_hint="")] = None
    """Only every N-th audit, counted from the K-th."""
    parts: Path = Path("results/.units/audit-record")
    """Where finished audits are kept."""
    out: Path = Path("results/audit-record.json")
    """The record: of all audits that are finished, these and earlier ones."""
    seed: int = 0
    """The root of all randomness."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "cpu"
    """Where the audits' learners live, such as cpu or cuda; the record says so where it is not cpu."""
    ray: RayOption = None
    """Run the audits on Ray: this machine, or an address."""
    keep: tyro.conf.FlagCreatePairsOff[bool] = False
    """Let audits stand that earlier code made; the record says which code made which."""
    redo: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """With --keep: rewards to audit anew."""
    assemble: tyro.conf.FlagCreatePairsOff[bool] = False
    """Audit nothing; only write the record of what is finished."""
    untimed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out dates and times, so that the same audits give the same bytes."""


def audit_record(args: AuditRecordArgs) -> int:
    """Runs the missing audits and writes the record; returns the exit code."""
    if args.kind == "text":
        return _text(args)
    from plaudit.auditing.record.building import build, save
    from plaudit.auditing.record.running import code_version, collect, jobs_of, run_record, shard_of

    jobs = jobs_of(efforts=args.effort, names=args.names, seed=args.seed)
    if args.shard is not None:
        jobs = shard_of(jobs, args.shard)
    if not args.assemble:
        print(f"{len(jobs)} audits; finished ones are kept in {args.parts}", flush=True)
        run_record(jobs, parts=args.parts, ray=where(args.ray), keep=args.keep, redo=args.redo, commit=_commit(),
                   device=args.device, progress=lambda done, text: print(f"{done:4.0%} {text}", flush=True))
    rows = [r for r in collect(args.parts, version=None if args.keep else code_version())
            if r["effort"] in args.effort and r["seed"] == args.seed]
    record = build(rows, names=args.names, timed=not args.untimed)
    save(record, args.out)
    if record["efforts"]:
        _draw(record, args.out.with_suffix(".png"))
    _show(record, args.out)
    return 0


def _text(args: AuditRecordArgs) -> int:
    """The text half: one process, finished audits are kept."""
    from plaudit.auditing.record.building import save
    from plaudit.auditing.record.text import build_text, run_text_record

    if args.shard is not None or args.ray is not None or args.keep or args.redo or args.assemble or (
            args.device != "cpu"):
        raise BadInput("--kind text", expected="no --shard, --ray, --keep, --redo, --assemble or --device beside it",
                       received="one of them", fix="it takes minutes, and its rewards are functions, without a network")
    usual = AuditRecordArgs()
    out = args.out if args.out != usual.out else usual.out.with_name("audit-record-text.json")
    parts = args.parts if args.parts != usual.parts else usual.parts.with_name("audit-record-text")
    rows = run_text_record(efforts=args.effort, names=args.names, seed=args.seed, parts=parts,
                           progress=lambda done, text: print(f"{done:4.0%} {text}", flush=True))
    record = build_text(rows, timed=not args.untimed)
    save(record, out)
    _show(record, out)
    return 0


def _draw(record: dict, path: Path) -> None:
    from plaudit.auditing.record.page import draw
    from plaudit.core.checkpoint import replacing

    with replacing(path) as temporary:
        draw(record).savefig(temporary, format="png", dpi=150, metadata={"Software": None})


def _show(record: dict, out: Path) -> None:
    from plaudit.auditing.record.building import misses
    from plaudit.auditing.record.quoting import Record

    quoted = Record.of(record)
    for row in record["efforts"]:
        effort, done, of = row["effort"], row["audited"], record["of"]
        print(f"\neffort {effort:g}: {done['flaws']} of {of['flaws']} flaws and {done['healthy']} of {of['healthy']} "
              "healthy rewards audited")
        print(f"  {quoted.overall(effort=effort)}")
        for name in row["checks"]:
            said = quoted.of_check(name, effort=effort)
            print(f"  {name:<11} detection {said['detection']}; high on {said['false_alarm']}"
                  + ("" if row["checks"][name]["on_by_default"] else "; OFF by default"))
        for r in misses(record, effort):
            print(f"  {'missed ' if 'caught' in r else 'ALARM  '} {r['name']}: {r['found'] or 'nothing'}")
    print(f"\n{out}")


def _commit() -> str:
    """The commit of the code that runs, where it lies in a repository."""
    here = Path(__file__).resolve().parent
    out = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True,
                         check=False)
    return out.stdout.strip() if out.returncode == 0 else ""
