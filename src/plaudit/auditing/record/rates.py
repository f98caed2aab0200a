"""From single audits to rates: what each check detects, and how often it cries on healthy rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plaudit.auditing.record.rewards import Entry
from plaudit.auditing.record.running import found_by
from plaudit.core.statistics import proportion_interval

MOST_ALARMS = 0.05
"""A check with a larger share of false alarms of any severity is off by default."""
Row = Mapping[str, Any]


def share(hits: int, n: int) -> dict[str, Any] | None:
    """A proportion with its interval, or None where there is nothing to count.

    Example:
        >>> share(0, 0) is None, share(3, 4)["mean"]
        (True, 0.75)
    """
    return None if n == 0 else {"hits": hits, **proportion_interval(hits, n).to_json()}


def rates_of(rows: Sequence[Row], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """The row of one effort: rates by check, over all, and by family, world and split.

    `overall` is what somebody gets who runs the checks that are on by default; `with all checks` needs no words.
    """
    names = list(dict.fromkeys(c for row in rows for c in row["checks"]))
    checks = {name: _of_check(name, rows, entries) for name in names}
    on = [name for name in names if checks[name]["on_by_default"]]
    groups: dict[str, Callable[[Entry], str]] = {
        "families": lambda e: e.family, "worlds": lambda e: e.world, "splits": lambda e: e.split}
    return {
        "audited": {"flaws": sum(entries[r["name"]].flawed for r in rows),
                    "healthy": sum(not entries[r["name"]].flawed for r in rows)},
        "overall": _over(rows, entries, on), "with all checks": _over(rows, entries, names), "checks": checks,
        **{group: {key: _over([r for r in rows if of(entries[r["name"]]) == key], entries, on)
                   for key in sorted({of(entries[r["name"]]) for r in rows} - {""})} for group, of in groups.items()},
    }


def caught(row: Row, entry: Entry, checks: Sequence[str]) -> bool:
    """Whether one of these checks that is right to find the flaw did, with at least medium severity."""
    return any(c in entry.caught_by and c in checks for c in found_by(row))


def _of_check(name: str, rows: Sequence[Row], entries: Mapping[str, Entry]) -> dict[str, Any]:
    own = [r for r in rows if name in entries[r["name"]].caught_by]
    looked = [r for r in rows if not entries[r["name"]].flawed and r["checks"].get(name, "skipped") != "skipped"]
    alarms = sum(name in r["found"] for r in looked)
    return {
        "detection": share(sum(name in found_by(r) for r in own), len(own)),
        "false alarms, high": share(sum(r["found"].get(name) == "high" for r in looked), len(looked)),
        "false alarms, any": share(alarms, len(looked)),
        "on_by_default": not looked or alarms / len(looked) <= MOST_ALARMS,
    }


def _over(rows: Sequence[Row], entries: Mapping[str, Entry], checks: Sequence[str]) -> dict[str, Any]:
    flawed = [r for r in rows if entries[r["name"]].flawed]
    sound = [r for r in rows if not entries[r["name"]].flawed]
    high = sum(any(r["found"].get(c) == "high" for c in checks) for r in sound)
    any_ = sum(any(c in r["found"] for c in checks) for r in sound)
    return {"detection": share(sum(caught(r, entries[r["name"]], checks) for r in flawed), len(flawed)),
            "false alarms, high": share(high, len(sound)), "false alarms, any": share(any_, len(sound))}
