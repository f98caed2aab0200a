"""`plaudit demo`: the audit of a flawed reward that comes with plaudit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plaudit.auditing.report.folders import check_folder, next_folder
from plaudit.cli.audit import run_and_report
from plaudit.cli.gate import Gate

REWARD = "plaudit.auditing.flaws.boat_race:reward"


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """Audits the boat race: a reward that pays for buoys, which a boat can circle for ever.

    Example: plaudit demo --budget 30
    """

    budget: float | None = None
    """About how many seconds to search; the default effort of an audit where it is not given."""
    seed: int = 0
    """The root of all randomness."""
    out: Path | None = None
    """Where the report goes; a new numbered folder under audits/ by default."""


def demo(args: DemoArgs) -> int:
    """Audits the demo's reward; succeeds when the audit does, whatever it finds."""
    check_folder(args.out or next_folder())
    print("The task: a boat race. The reward pays 3 for each buoy and 5 for the finish. What is wanted: boats that "
          "finish.", flush=True)
    from plaudit.auditing.audit import audit
    from plaudit.auditing.flaws import boat_race

    flaw = boat_race.farmed_checkpoints()
    return run_and_report(lambda listen: audit(REWARD, env=flaw.task(), intent=flaw.intent(),
                                               seconds=args.budget, seed=args.seed, listen=listen),
                          out=args.out, gate=Gate(fail_on="never"), patience_s=120.0)
