"""What an audit says of itself: the row of the record at its own effort, and which checks are on by default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.report.model import CheckResult

FORMAT = "plaudit.audit-record.1"
UNTESTED = "untested"
FEW = 2
"""Chosen checks whose sentences are said one after the other."""
CHOSEN = "only some of the checks ran; the record's rates of each stand beside it"
CUT_OFF = "interrupted: the record's rates are those of whole audits"
_NEAR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Record:
    """Measured rates, as the package ships them.

    Example:
        >>> record = Record.of({"date": "2026-01-01", "efforts": [{"effort": 1.0, "overall": {}, "checks": {
        ...     "exploit": {"detection": {"hits": 8, "mean": 0.8, "low": 0.49, "high": 0.94, "n": 10},
        ...                 "false alarms, high": None, "false alarms, any": None, "on_by_default": True}}}]})
        >>> record.of_check("exploit", effort=2.0)["detection"]
        '80% [49%, 94%] of 10 planted flaws'
        >>> record.of_check("exploit", effort=0.5)["detection"], record.of_check("mine", effort=1.0)["detection"]
        ('untested', 'untested')
    """

    date: str
    rows: tuple[Mapping[str, Any], ...]
    """One for each effort, the smallest first."""

    @staticmethod
    def of(data: Mapping[str, Any]) -> Record:
        """A record from its JSON."""
        return Record(date=data.get("date", ""), rows=tuple(sorted(data["efforts"], key=lambda r: r["effort"])))

    @staticmethod
    def load(path: Path) -> Record:
        """A record from a file.

        Raises:
            BadInput: when there is none.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput("record", expected="a file of plaudit audit-record", received=f"{path} ({error})") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BadInput("record", expected=f"a file of format {FORMAT}", received=str(path))
        return Record.of(data)

    def row(self, effort: float) -> Mapping[str, Any] | None:
        """The row of an effort, or the one below it; None where nothing so small was measured."""
        below = [r for r in self.rows if r["effort"] <= effort * (1 + _NEAR)]
        return below[-1] if below else None

    def of_check(self, name: str, *, effort: float) -> dict[str, str]:
        """`detection` and `false_alarm` of a check in words, and the `sentence` that reports quote."""
        row = self.row(effort)
        found = row["checks"].get(name) if row else None
        if row is None or found is None:
            return {"detection": UNTESTED, "false_alarm": UNTESTED,
                    "sentence": f"the {name} check is {UNTESTED} at this effort"}
        detection, alarm = found["detection"], found["false alarms, high"]
        said = f"the {name} check {_finds(detection)} and {_raises(alarm)}"
        return {"detection": _of(detection, "planted flaws"), "false_alarm": _of(alarm, "healthy rewards"),
                "sentence": f"{_at(row['effort'])} {said} ({self._source()})"}

    def overall(self, *, effort: float) -> str:
        """The sentence on all checks that are on by default together."""
        row = self.row(effort)
        if row is None:
            return f"{UNTESTED}: the record begins at {self.rows[0]['effort']:g} times the default effort" \
                if self.rows else UNTESTED
        detection, alarm = row["overall"]["detection"], row["overall"]["false alarms, high"]
        fresh = row.get("splits", {}).get("fresh", {}).get("detection")
        apart = f" ({percent(fresh)} of the {fresh['n']} on which nothing was tuned)" if fresh else ""
        return f"{_at(row['effort'])} an audit {_finds(detection)}{apart} and {_raises(alarm)} ({self._source()})"

    def of_audit(self, results: Sequence[CheckResult], *, effort: float, interrupted: bool,
                 chosen: bool = False) -> dict[str, Any]:
        """What an audit says of itself: the rates of all together, `detection`, and the sentence of each of `checks`.

        Rates are those of whole audits: one that was interrupted quotes those of the checks that it finished, and one
        of `chosen` checks theirs.
        """
        quoted = [r for r in results if not interrupted or r.status != "skipped"]
        checks = {r.name: self.of_check(r.name, effort=effort)["sentence"] for r in quoted}
        alone = "; ".join(checks.values()) if len(checks) <= FEW else CHOSEN
        return {"detection": CUT_OFF if interrupted else alone if chosen else self.overall(effort=effort),
                "checks": checks}

    def off(self) -> dict[str, str]:
        """The checks that cry too often at the default effort, each with the reason."""
        row = self.row(1.0)
        checks: Mapping[str, Any] = row["checks"] if row else {}
        return {name: f"off by default: it raises a finding on {_of(c['false alarms, any'], 'healthy rewards')}; "
                      f"--only {name} runs it" for name, c in checks.items() if not c["on_by_default"]}

    def _source(self) -> str:
        return f"audit-record of {self.date}" if self.date else "audit-record"


@cache
def shipped() -> Record:
    """The record that came with this plaudit; empty where there is none."""
    file = resources.files("plaudit.auditing.record") / "measured.json"
    return Record.of(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else Record(date="", rows=())


def on_by_default(names: Sequence[str], record: Record | None = None) -> list[str]:
    """Those of the checks that do not cry too often."""
    off = (shipped() if record is None else record).off()
    return [name for name in names if name not in off]


def percent(share: Mapping[str, Any]) -> str:
    """A share with its interval in percent.

    Example:
        >>> percent({"mean": 0.8712, "low": 0.8, "high": 0.921})
        '87% [80%, 92%]'
    """
    return f"{share['mean']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"


def _of(share: Mapping[str, Any] | None, what: str) -> str:
    return UNTESTED if share is None else f"{percent(share)} of {share['n']} {what}"


def _finds(share: Mapping[str, Any] | None) -> str:
    return "has no planted flaws to find" if share is None else f"finds {_of(share, 'flaws planted by its authors')}"


def _raises(share: Mapping[str, Any] | None) -> str:
    return "was tried on no healthy reward" if share is None else \
        f"raises a high finding on {_of(share, 'healthy rewards')}"


def _at(effort: float) -> str:
    return "at the default effort" if effort == 1 else f"at {effort:g} times the default effort"
