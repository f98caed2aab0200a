"""`plaudit`: finds the command, reads its options with tyro, and turns errors into one clear line."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

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
    "replay": Command("plaudit.cli.replay", "ReplayArgs", "replay", "plays the witness of a finding, step by step"),
    "optimize": Command("plaudit.cli.optimize", "OptimizeArgs", "optimize", "trains agents on a reward"),
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
    logging.basicConfig(level=os.environ.get("PLAUDIT_LOG", "ERROR").upper(), format="%(name)s: %(message)s")
    import tyro

    from plaudit.core.errors import PlauditError

    try:
        module = importlib.import_module(command.module)
        options = tyro.cli(getattr(module, command.options), args=list(words[1:]), prog=f"plaudit {words[0]}")
        return int(getattr(module, command.function)(options))
    except PlauditError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
