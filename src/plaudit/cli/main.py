"""`plaudit`: finds the command, reads its options with tyro, and turns errors into one clear line."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

BAD_INPUT, INTERRUPTED = 2, 130


@dataclass(frozen=True)
class Command:
    """A subcommand: where it lives (imported only when it is called), and a line of help."""

    module: str
    options: str
    function: str
    help: str


COMMANDS = {
    "audit": Command("plaudit.cli.audit", "AuditArgs", "audit",
                     "is a reward safe to optimise? the verdict in a minute"),
    "audit-record": Command("plaudit.cli.audit_record", "AuditRecordArgs", "audit_record",
                            "how many planted flaws the checks find, how often they cry wolf"),
    "replay": Command("plaudit.cli.replay", "ReplayArgs", "replay", "plays the witness of a finding, step by step"),
    "optimize": Command("plaudit.cli.optimize", "OptimizeArgs", "optimize", "trains agents on a reward"),
    "optimize bandit": Command("plaudit.cli.optimize_bandit", "BanditArgs", "optimize_bandit",
                               "plays a bandit, or reads a log and says which arm pays"),
    "optimize align": Command("plaudit.cli.optimize_align", "AlignArgs", "optimize_align",
                              "aligns a language model with a reward, or with a file of pairs"),
    "score": Command("plaudit.cli.score", "ScoreArgs", "score", "scores a file of texts with a reward model"),
    "evaluate": Command("plaudit.cli.evaluate", "EvaluateArgs", "evaluate",
                        "how often a reward model prefers what it should, with intervals"),
    "serve": Command("plaudit.cli.serve", "ServeArgs", "serve", "reward models behind HTTP, for trainers"),
    "learn": Command("plaudit.cli.learn", "LearnArgs", "learn", "fits a reward model to what was said of texts"),
    "learn features": Command("plaudit.cli.learn_features", "LearnFeaturesArgs", "learn_features",
                              "fits a reward model of features that you name, to a few hundred preferences"),
    "zoo": Command("plaudit.cli.zoo", "ZooArgs", "zoo", "published systems as experiments, with their verdicts"),
    "demo": Command("plaudit.cli.demo", "DemoArgs", "demo", "audits a flawed reward that comes with plaudit"),
}

USAGE = """usage: plaudit COMMAND [OPTIONS]

{commands}

example: plaudit audit rewards.py:speed --env Hopper-v5 --intent info:x_position
`plaudit COMMAND --help` shows the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 1 (a finding), 2 (bad input), 130 (interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else BAD_INPUT
    if words[0] == "--version":
        from plaudit import __version__

        print(f"plaudit {__version__}")
        return 0
    if " ".join(words[:2]) in COMMANDS:
        words[:2] = [" ".join(words[:2])]
    if words[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"error: no command {words[0]!r}; {hint}", file=sys.stderr)
        return BAD_INPUT
    return _run(COMMANDS[words[0]], words)


def usage() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS))
    return USAGE.format(commands="\n".join(f"  {name:<{width}}  {c.help}" for name, c in COMMANDS.items()))


def _run(command: Command, words: Sequence[str]) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    level = os.environ.get("PLAUDIT_LOG", "").upper()
    known = logging.getLevelNamesMapping().get(level, logging.CRITICAL)
    logging.basicConfig(level=known, format="%(name)s: %(message)s")
    try:
        module = importlib.import_module(command.module)
        import tyro

        options = tyro.cli(getattr(module, command.options), args=list(words[1:]), prog=f"plaudit {words[0]}")
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    return _guarded(lambda: int(getattr(module, command.function)(options)), debug=known <= logging.DEBUG)


def _guarded(work: Callable[[], int], *, debug: bool) -> int:
    """Runs a command; whatever goes wrong is one line on stderr."""
    from plaudit.core.errors import PlauditError

    warnings.showwarning = _show_warning
    try:
        return work()
    except PlauditError as error:
        if debug:
            raise
        return _complain(f"error: {error}", BAD_INPUT)
    except KeyboardInterrupt as stop:
        return _complain(f"interrupted; {stop}" if str(stop) else "interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as error:
        return _complain(f"error: code that was run called sys.exit({error.code!r})", BAD_INPUT)
    except Exception as error:
        if debug:
            raise
        return _complain(f"error: {type(error).__name__}: {error} (PLAUDIT_LOG=debug shows where)", BAD_INPUT)


def _complain(text: str, code: int) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return code


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None,
                  line: str | None = None) -> None:
    """A warning to the user is one line; those between programmers are not shown."""
    if issubclass(category, UserWarning) and "plaudit" in filename:
        _complain(f"note: {message}", 0)


if __name__ == "__main__":
    sys.exit(main())
