"""`plaudit demo`: the audit of a flawed reward that comes with plaudit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plaudit.auditing.report.files import check_folder, next_folder


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """Audits the boat race: a reward that pays for buoys, which a boat can circle for ever.

    Example: plaudit demo --budget 30
    """

    budget: float = 40.0
    """About how many seconds to search."""
    seed: int = 0
    """The root of all randomness."""
    out: Path | None = None
    """Where the report goes; a new numbered folder under audits/ by default."""


def demo(args: DemoArgs) -> int:
    """Audits the demo's reward; succeeds when the audit does, whatever it finds."""
    folder = args.out or next_folder()
    check_folder(folder)
    from plaudit.auditing.audit import audit
    from plaudit.auditing.flaws import boat_race
    from plaudit.cli.screen import Screen, Watchdog

    screen = Screen()
    flaw = boat_race.farmed_checkpoints()
    screen.console.print("[bright_black]The task: a boat race. The reward pays 3 for each buoy and 10 for the finish. "
                         "What is wanted: boats that finish.[/]")
    with screen, Watchdog(screen):
        report = audit(boat_race.reward, env=flaw.task(), intent=flaw.intent(), seconds=args.budget, seed=args.seed,
                       listen=screen)
    report.save(folder)
    screen.verdict(report, folder)
    return 130 if report.interrupted else 0
