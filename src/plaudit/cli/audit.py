"""`plaudit audit TARGET`: from a reward to a verdict with a witness."""

from __future__ import annotations

import ast
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from plaudit.auditing.checks import BUILT_IN
from plaudit.auditing.record.quoting import on_by_default
from plaudit.auditing.report.folders import ROOT, check_folder, next_folder
from plaudit.cli.audit_text import audit_text, is_text, output_format, text_words
from plaudit.cli.gate import Gate
from plaudit.cli.given import json_object
from plaudit.cli.interrupts import leaving
from plaudit.cli.models import ServerKind
from plaudit.cli.workers import RayOption, where
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.targets import definitions

if TYPE_CHECKING:
    from plaudit.auditing.audit import Event, Listener
    from plaudit.auditing.report.model import AuditReport

BAD_INPUT, INTERRUPTED = 2, 130
SEARCHES = ROOT / ".searches"
"""Where audits keep what their searches have finished."""
COLLECTION = ("flaw:", "healthy:")
"""How targets begin that name a member of the flaw collection or of the healthy set."""


def _takes(metavar: str, *, default: str | None = None) -> Any:
    """An option with a word for its value; what happens without it is told by its help where `default` is empty."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default)


@dataclass(frozen=True, kw_only=True)
class AuditArgs:
    """Is a reward safe to optimise? Optimises it and shows how far that leads from what is wanted.

    A reward of your own:  plaudit audit rewards.py:speed --env Hopper-v5 --intent info:x_position

    An environment:        plaudit audit env.py:Boat --intent info:is_success --effort 5
    """

    target: Annotated[tyro.conf.Positional[str], _takes("TARGET", default="")]
    """What to audit: file.py:name or module:name of a reward function, an environment class or a factory; an
    environment id (audits its own reward); the folder of a saved reward; or flaw:NAME or healthy:NAME, a reward of
    the flaw collection with its environment and intent."""
    env: Annotated[str | None, _takes("ENV", default="")] = None
    """The environment of a reward: a Gymnasium id, or file.py:name of a class or factory."""
    env_kwargs: Annotated[str, _takes("JSON")] = "{}"
    """Arguments for the environment."""
    intent: Annotated[str | None, _takes("SPEC", default="")] = None
    """What is wanted: file.py:name[:sum|last|max|any], info:KEY[:...], or env. Found in info where it can be."""
    reference: Annotated[str | None, _takes("TARGET|env", default="")] = None
    """A reward to measure the distance to."""
    episodes: Annotated[str | None, _takes("FILE", default="")] = None
    """Logged episodes to look at as well: a file of Episodes.save, or the id of a Minari data set."""
    policy: Annotated[Path | None, _takes("FILE", default="")] = None
    """A trained policy to look at as well: a folder of plaudit optimize, or a stable-baselines3 zip (needs --trust)."""
    effort: Annotated[float, _takes("X")] = 1.0
    """How hard to look, in multiples of the default, which is a number of steps: half a minute or less."""
    budget: Annotated[float | None, _takes("SECONDS", default="")] = None
    """About how long to search, instead of --effort; turned into steps once, and recorded."""
    steps: Annotated[int | None, _takes("N", default="")] = None
    """Environment steps to search, instead of --effort: the same steps and seed give the same report."""
    seed: Annotated[int, _takes("N")] = 0
    """The root of all randomness."""
    discount: Annotated[float, _takes("G")] = 0.99
    """The discount of whoever will optimise the reward."""
    out: Annotated[Path | None, _takes("DIR", default="")] = None
    """Where the report goes; a new numbered folder under audits/ by default."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with an audit that was killed or interrupted, by the same command: what its searches had finished lies in
    audits/.searches until they end."""
    fail_on: Annotated[Literal["low", "medium", "high", "never"], _takes("low|medium|high|never")] = "high"
    """The severity from which the exit code is 1; accepted findings do not count."""
    baseline: Annotated[Path | None, _takes("FILE", default="")] = None
    """Accepted findings, each with a reason: they are shown, and fail nothing."""
    write_baseline: tyro.conf.FlagCreatePairsOff[bool] = False
    """Accept what is found: writes it to --baseline (plaudit-baseline.json) with --reason."""
    reason: Annotated[str | None, _takes("TEXT", default="")] = None
    """Why the findings are accepted; needed by --write-baseline."""
    expires: Annotated[str | None, _takes("YYYY-MM-DD", default="")] = None
    """The last day on which they are."""
    diff: Annotated[Path | None, _takes("OLD/report.json", default="")] = None
    """An earlier report: says what is new, gone or changed since."""
    fail_on_new: tyro.conf.FlagCreatePairsOff[bool] = False
    """Beside --diff: only findings that are new, or worse than they were, make the exit code 1."""
    format: Annotated[str, _takes("auto|text|github|ANSWER")] = "auto"
    """github prints a workflow command for each finding, so that it stands in the pull request; auto does so where
    GITHUB_ACTIONS is set. For a reward of texts: how an answer is written, such as "<answer>...</answer>"."""
    data: Annotated[Path | None, _takes("FILE", default="")] = None
    """For a reward of texts: prompts with right answers, or pairs (JSONL, JSON, Parquet)."""
    suite: Annotated[str | None, _takes("NAME", default="")] = None
    """For a reward of texts: prompts by a generator: sums, reasoning, choices, instructions, principles, dialogues,
    code, mixed."""
    generator: Annotated[Path | None, _takes("DIR", default="")] = None
    """For a reward of texts: a language model that writes completions, for the curve of over-optimisation."""
    kind: Annotated[ServerKind | None, _takes("plaudit|openrlhf|vllm|rerank", default="")] = None
    """For a URL: what the server speaks; by default what the path says, else plaudit. Which of its models stands behind
    #; the bearer token comes from the variable PLAUDIT_TOKEN."""
    tokenizer: Annotated[Path | None, _takes("DIR", default="")] = None
    """For a server that takes whole texts (openrlhf): the tokenizer whose chat template makes them."""
    only: Annotated[tuple[str, ...] | None, _takes("CHECK ...", default="")] = None
    """The checks to run, such as --only contract exploit; all by default."""
    time_limit: Annotated[float, _takes("SECONDS")] = 10.0
    """How long one call of the reward function may take; what is late is unknown."""
    patience: Annotated[float, _takes("SECONDS")] = 120.0
    """Give up, and keep what was found, when nothing has come back for so long."""
    device: Annotated[str, _takes("NAME")] = "cpu"
    """Where learners, and models of texts, live: such as cpu or cuda."""
    ray: RayOption = None
    """Send the searches to Ray, with the same numbers: to all cores of this machine, a NUMBER of them, or the cluster
    at an ADDRESS (auto, or host:port)."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Load files that can run code: a stable-baselines3 zip, a saved reward whose functions have changed."""


def audit(args: AuditArgs) -> int:
    """Runs the audit and writes the report; returns the exit code."""
    with leaving(lambda: "nothing was written"):
        return _audit(args)


def _audit(args: AuditArgs) -> int:
    print(first_words(args), flush=True)  # before the heavy imports, which take seconds on a busy machine
    if is_text(args):
        return audit_text(args, run_and_report)
    _no_answer_format(args)
    args = _of_the_collection(args)
    kwargs, workers = json_object("--env-kwargs", args.env_kwargs), where(args.ray)
    check_folder(args.out or next_folder())
    gate = Gate.read(fail_on=args.fail_on, baseline=args.baseline, write_baseline=args.write_baseline,
                     reason=args.reason, expires=args.expires, diff=args.diff, fail_on_new=args.fail_on_new,
                     format=output_format(args.format))
    from plaudit.auditing.audit import audit as run

    return run_and_report(lambda listen: run(
        args.target, env=args.env, env_kwargs=kwargs, intent=args.intent, reference=args.reference,
        episodes=args.episodes, policy=args.policy, effort=args.effort, seconds=args.budget, steps=args.steps,
        seed=args.seed, discount=args.discount, trust=args.trust, only=args.only, time_limit_s=args.time_limit,
        listen=listen, ray=workers, device=args.device, keep=SEARCHES, resume=args.resume),
        out=args.out, gate=gate, patience_s=args.patience)


def _of_the_collection(args: AuditArgs) -> AuditArgs:
    """`flaw:NAME` and `healthy:NAME` spelt out; other arguments as they are."""
    if not args.target.startswith(COLLECTION):
        return args
    if args.env is not None or args.intent is not None:
        raise BadInput("env" if args.env is not None else "intent",
                       expected=f"none beside {args.target}, which has its own",
                       received=args.env if args.env is not None else args.intent,
                       fix="leave it out, or name the reward as module:name")
    from plaudit.auditing.flaws.spelling import spelt_out

    target, env, intent = spelt_out(args.target)
    return replace(args, target=target, env=env, intent=intent)


def first_words(args: AuditArgs) -> str:
    """What the text of the target says, without running any of it.

    Example:
        >>> first_words(AuditArgs(target="CartPole-v1", intent="env", only=("contract",)))
        'plaudit audit: the environment CartPole-v1 with its own reward; intent: env; checks: contract'
    """
    if is_text(args):
        return text_words(args)
    file, _, name = args.target.rpartition(":")
    node = next((n for n in definitions(Path(file)) if n.name == name), None) if file.endswith(".py") else None
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        what = f"{file}: {name}({', '.join(a.arg for a in [*node.args.args, *node.args.kwonlyargs])})"
    elif isinstance(node, ast.ClassDef):
        what = f"{file}: class {name}"
    elif file or Path(args.target).exists():
        what = args.target
    else:
        what = f"the environment {args.target} with its own reward"
    found = "its own" if args.target.startswith(COLLECTION) else "looked for in info"
    return (f"plaudit audit: {what}{f' on {args.env}' if args.env else ''}; "
            f"intent: {args.intent or found}; checks: {', '.join(args.only or on_by_default(BUILT_IN))}")


def _no_answer_format(args: AuditArgs) -> None:
    if output_format(args.format) != args.format:
        raise BadInput("--format", expected="auto, text or github; or, for a reward of texts, how an answer is written",
                       received=args.format)


def run_and_report(run: Any, *, out: Path | None, gate: Gate, patience_s: float) -> int:
    """Runs `run(listen)`, shows it, and writes its report whatever happens; returns the exit code.

    The exit code is 1 where the gate says so, 2 where the audit hung or the report could not be
    written, 130 after Ctrl-C.
    """
    from plaudit.cli.interrupts import Interrupts, Watchdog
    from plaudit.cli.screen import Screen

    screen, interrupts = Screen(), Interrupts()
    watchdog = Watchdog(patience_s=patience_s, save=lambda report: _write(gate.judge(report), out))

    def listen(event: Event) -> None:
        watchdog(event)
        interrupts(event)
        screen(event)

    with interrupts:
        listener: Listener = listen
        try:
            with screen, watchdog:
                report: AuditReport = run(listener)
        except KeyboardInterrupt:
            if not watchdog.fired:
                raise
            return BAD_INPUT  # it hung before there was anything to report, and said so
        report = gate.judge(report)
        screen.findings(report)
        gate.tell(report, screen.console)
        try:
            screen.where(report, _write(report, out))
        except PlauditError as error:
            return _elsewhere(report, error)
    if watchdog.fired:
        return BAD_INPUT
    if report.interrupted or interrupts.noted:
        so_far = f"; the report holds what was found so far{_goes_on()}" if report.interrupted else ""
        print(f"interrupted{so_far}", file=sys.stderr)
        return INTERRUPTED
    return int(gate.fails(report))


def _goes_on() -> str:
    return "; the same command with --resume goes on" if any(SEARCHES.glob("*/*.json")) else ""


def _write(report: AuditReport, out: Path | None) -> Path:
    from plaudit.auditing.report.files import write_all, write_next

    return write_next(report) if out is None else write_all(report, out)


def _elsewhere(report: AuditReport, error: PlauditError) -> int:
    """A report that cannot be written where it should goes to the temporary folder, if that has room."""
    draft = Path(tempfile.mkdtemp(prefix="plaudit-"))
    try:
        where = f"; it lies in {_write(report, draft)} instead"
    except (PlauditError, OSError):
        shutil.rmtree(draft, ignore_errors=True)
        where = ""
    print(f"error: {error}{where}", file=sys.stderr)
    return BAD_INPUT
