"""The text half of the record: every text check on each planted flaw of text, and on each of their twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.auditing.record.building import assemble
from plaudit.auditing.record.page import effort_section, misses_section
from plaudit.auditing.record.rates import Row
from plaudit.auditing.record.rewards import Entry, chosen
from plaudit.auditing.record.running import noted
from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.checks import names as check_names
from plaudit.auditing.text.flaws.collection import planted, text_flaws, text_healthy
from plaudit.auditing.text.subject import of_collection
from plaudit.core.jobs import Progress, run_jobs
from plaudit.core.provenance import code_hash

if TYPE_CHECKING:
    from plaudit.auditing.report.model import AuditReport

WHAT = ("What the text checks of an audit find of the planted flaws of text, and how often they cry on their healthy "
        "twins. A flaw is detected when a check that is right to find it has a finding of at least medium severity. "
        "Intervals are Wilson's, 95%.")
INTRO = """# Text rewards

The same bars for functions, verifiers and reward models ([audit text rewards](audit-text.md)): each check runs on each
planted flaw of text and on each different healthy twin. A hash of its name says which flaw is `tuned` (thresholds were
chosen while looking at it) and which is `fresh`. `plaudit audit-record --kind text` measures it anew, in minutes.

Read the rates as those of flaws that the checks have met: some fresh ones were looked at later, when a check that
missed them was mended. Flaws that were written after the mends of `ranking` and `overoptimisation` and tried once were
found 5 times of 5 by the one and 4 times of 7 by the other (whose misses were then looked at, too).
"""


def text_entries() -> list[Entry]:
    """The text rewards of the record: all flaws, then all different twins.

    Example:
        >>> first = text_entries()[0]
        >>> first.name, first.world, first.flawed
        ('flaw:text/substring', 'text', True)
    """
    flaws = [Entry(name=f"flaw:{f.name}", family=f.kind, world="text", split=f.split, caught_by=f.caught_by)
             for f in text_flaws()]
    return [*flaws, *(Entry(name=f"healthy:{p.name}", family="model" if p.flaw.model else "function", world="text")
                      for p in text_healthy())]


def audit_text_one(name: str, effort: float, seed: int) -> dict[str, Any]:
    """Audits one text reward of the record with all checks that fit it, and notes what they said."""
    def go() -> AuditReport:
        kind, _, rest = name.partition(":")
        one = planted(rest, twin=kind == "healthy")
        return audit_text(**{**one.arguments(), "reward": of_collection(one)}, effort=effort, seed=seed,
                          only=check_names(), patience_s=1e6)

    return noted(go, name=name, effort=effort, seed=seed)


def run_text_record(*, efforts: Sequence[float], names: Sequence[str] | None, seed: int, parts: Path,
                    progress: Progress | None = None) -> list[dict[str, Any]]:
    """Makes the audits; those that this code has finished in the folder of parts are kept.

    Args:
        efforts: multiples of the default effort.
        names: of the rewards; all by default.
        seed: the root of all randomness.
        parts: the folder.
        progress: told the share done and the reward just finished.
    """
    jobs = [{"name": e.name, "effort": float(x), "seed": seed} for x in sorted(efforts)
            for e in chosen(names, text_entries())]
    return run_jobs(audit_text_one, jobs, folder=parts, version=code_hash(__name__),
                    names=[f"{j['name']} at {j['effort']:g}" for j in jobs], progress=progress)


def build_text(rows: Sequence[Row], *, timed: bool = True) -> dict[str, Any]:
    """The record of finished audits, in the form of the control record.

    Args:
        rows: of `run_text_record`.
        timed: whether to write the date, the machine and what each audit cost, which differ from run to run.
    """
    return assemble(rows, {e.name: e for e in text_entries()}, what=WHAT, code=code_hash(__name__),
                    checks=check_names(), timed=timed)


def text_markdown(record: Mapping[str, Any]) -> str:
    """The section of the record's page."""
    parts = [INTRO.replace("# Text", "## Text"), f"Measured {record.get('date', '')} "
             f"({record.get('machine', 'machine unknown')}, {record.get('cpu_s', 0) / 60:.1f} CPU minutes), code "
             f"{record['code']}.\n"]
    for row in record["efforts"]:
        parts += [effort_section(row, record["of"]).replace("\n## ", "\n### ").replace("## ", "### ", 1),
                  misses_section(record, row["effort"])]
    return "\n".join(parts)
