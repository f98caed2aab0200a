"""`plaudit audit` for rewards of texts, and `plaudit replay` for their witnesses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape

from plaudit.cli.gate import Format, Gate
from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.asking import Listener
    from plaudit.auditing.report.model import AuditReport
    from plaudit.cli.audit import AuditArgs

OUTPUT = ("auto", "text", "github")
FOREIGN = ("env", "reference", "episodes", "policy", "steps", "ray", "resume")
"""Options that a reward of texts has no use for."""
SHOWN = 2000
"""Characters of a completion that a replay prints."""


def is_text(args: AuditArgs) -> bool:
    """Whether the options or the target speak of texts; runs none of the target's code."""
    from plaudit.auditing.text.naming import names_text

    given = args.data is not None or args.suite is not None or args.generator is not None
    return given or (args.env is None and names_text(args.target))


def output_format(format: str) -> Format:
    """`--format` as the gate reads it: an answer format leaves the output as it is."""
    return cast("Format", format) if format in OUTPUT else "auto"


def text_words(args: AuditArgs) -> str:
    """What the options say, without running any of it.

    Example:
        >>> from plaudit.cli.audit import AuditArgs
        >>> text_words(AuditArgs(target="rewards.py:reward", suite="sums"))
        'plaudit audit: the text reward rewards.py:reward; data: suite:sums; intent: looked for in the data'
    """
    data = " and ".join([*([str(args.data)] if args.data else []), *([f"suite:{args.suite}"] if args.suite else [])])
    own = args.target.startswith(("flaw:", "healthy:"))
    only = f"; checks: {', '.join(args.only)}" if args.only else ""
    return (f"plaudit audit: the text reward {args.target}; data: {data or ('its own' if own else 'a suite')}; intent: "
            f"{args.intent or ('its own' if own else 'looked for in the data')}{only}")


def audit_text(args: AuditArgs, run_and_report: Callable[..., int]) -> int:
    """Runs the audit of texts and writes the report; returns the exit code."""
    from plaudit.auditing.report.folders import check_folder, next_folder

    given = [n for n in FOREIGN if getattr(args, n) not in (None, False)]
    if given:
        raise BadInput(f"--{given[0]}", expected="none for a reward of texts", received=getattr(args, given[0]),
                       fix="--effort says how hard to look, --data and --suite at what")
    check_folder(args.out or next_folder())
    gate = Gate.read(fail_on=args.fail_on, baseline=args.baseline, write_baseline=args.write_baseline,
                     reason=args.reason, expires=args.expires, diff=args.diff, fail_on_new=args.fail_on_new,
                     format=output_format(args.format))
    return run_and_report(lambda listen: _run(args, listen), out=args.out, gate=gate, patience_s=args.patience)


def _run(args: AuditArgs, listen: Listener) -> AuditReport:
    from plaudit.auditing.text.audit import audit_text as run
    from plaudit.auditing.text.pairs import audit_pairs

    if args.data is None and args.suite is None and Path(args.target).is_file() and ":" not in args.target:
        return audit_pairs(args.target, seed=args.seed, only=args.only, listen=listen)
    form = None if args.format in OUTPUT else args.format
    options: dict[str, Any] = {"reward": args.target, "rows": args.data, "suite": args.suite, "format": form,
                               "intent": args.intent, "generator": args.generator}
    if args.target.startswith(("http://", "https://")):
        from plaudit.auditing.text.subject import of_server
        from plaudit.cli.models import load_remote

        options["reward"] = of_server(load_remote(args.target, kind=args.kind, tokenizer=args.tokenizer), args.target,
                                      tokenizer=args.tokenizer)
    elif args.kind is not None or args.tokenizer is not None:
        raise BadInput("--kind" if args.kind else "--tokenizer", expected="none beside a target that is no URL",
                       received=args.kind or str(args.tokenizer))
    if args.target.startswith(("flaw:", "healthy:")):
        options |= _of_the_collection(args)
    patience: dict[str, Any] = {} if args.budget is None else {"patience_s": args.budget}
    return run(**options, effort=args.effort, seed=args.seed, only=args.only,
               time_limit_s=args.time_limit, **patience, trust=args.trust, device=args.device, listen=listen)


def _of_the_collection(args: AuditArgs) -> dict[str, Any]:
    from plaudit.auditing.text.flaws.collection import planted
    from plaudit.auditing.text.subject import of_collection

    kind, _, name = args.target.partition(":")
    one = planted(name, twin=kind == "healthy")
    return {**one.arguments(), "reward": of_collection(one)}


def replay_text(path: Path, console: Console, *, trust: bool) -> int:
    """Scores a witness of texts again and prints what each is paid; 0 when the numbers of the audit came out again."""
    from plaudit.auditing.text.replaying import score_again

    played = score_again(path, trust=trust)
    witness = played.witness
    console.print(f"[bold]{escape(witness.title)}[/] ({escape(witness.check)})")
    for said, now in zip(witness.said, played.paid, strict=True):
        console.print(f"\n[bold]{escape(said.role)}[/]: paid {_number(now)}"
                      + ("" if played.same_at(said, now) else f" [red](the audit saw {_number(said.paid)})[/]"))
        console.print(f"[bright_black]prompt[/]     {escape(_shown(_text(said.prompt)))}", soft_wrap=True)
        console.print(f"[bright_black]completion[/] {escape(_shown(said.completion))}", soft_wrap=True)
    for reason in played.why:
        console.print(f"[yellow]unknown: {escape(reason)}[/]", soft_wrap=True)
    if not witness.repeats:
        console.print("\nthe finding is that these numbers are not the same each time")
    elif not played.same:
        console.print("\n[red]other numbers than those of the audit: the code or the model has changed since[/]")
    return 0 if played.same or not witness.repeats else 1


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else " | ".join(f"{m.get('role')}: {m.get('content')}" for m in prompt)


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"
