"""The record as a file: rates for each effort, and every reward's own row, so that a reader sees the misses."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.auditing.checks import BUILT_IN
from plaudit.auditing.record.quoting import FORMAT
from plaudit.auditing.record.rates import Row, caught, rates_of
from plaudit.auditing.record.rewards import Entry, chosen
from plaudit.core.checkpoint import write_text
from plaudit.core.provenance import machine, versions
from plaudit.optimize.hunting.plan import USUAL_STEPS

WHAT = ("What the checks of an audit find of the flaw collection, and how often they cry on the healthy set. A flaw is "
        "detected when a check that is right to find it has a finding of at least medium severity. Rates are over the "
        "rewards that were audited so far; intervals are Wilson's, 95%.")


def build(rows: Sequence[Row], *, names: Sequence[str] | None = None, timed: bool = True) -> dict[str, Any]:
    """The record of finished audits.

    Args:
        rows: of `collect`.
        names: of the rewards that belong to it; all by default.
        timed: whether to write the date, the machine and what each audit cost, which differ from run to run.
    """
    entries = {e.name: e for e in chosen(names)}
    rows = [r for r in rows if r["name"] in entries]
    return assemble(rows, entries, what=WHAT, code=_codes(rows), timed=timed, checks=BUILT_IN,
                    config={"steps of the default effort": dict(USUAL_STEPS)})


def assemble(rows: Sequence[Row], entries: Mapping[str, Entry], *, what: str, code: Any, checks: Sequence[str],
             config: Mapping[str, Any] | None = None, timed: bool = True) -> dict[str, Any]:
    """A record: rates of each effort, and every reward's own row.

    Args:
        rows: of `noted`.
        entries: what is known of each reward, by name.
        what: the first words of the record.
        code: which code made it.
        checks: which ran.
        config: what else the audits were given.
        timed: whether to write the date, the machine and what each audit cost, which differ from run to run.
    """
    efforts = sorted({r["effort"] for r in rows})
    out: dict[str, Any] = {
        "format": FORMAT, "what": what,
        "config": {"seeds": sorted({r["seed"] for r in rows}), **(config or {}), "checks": list(checks)},
        "versions": versions(), "code": code,
        "of": {"flaws": sum(e.flawed for e in entries.values()),
               "healthy": sum(not e.flawed for e in entries.values())},
        "efforts": [{"effort": x, **rates_of([r for r in rows if r["effort"] == x], entries)} for x in efforts],
        "rewards": [_reward(r, entries[r["name"]], timed=timed) for r in rows],
    }
    if timed:
        out |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": machine(),
                "cpu_s": round(sum(r["measured"]["cpu_s"] for r in rows), 1)}
    return out


def save(record: Mapping[str, Any], path: Path) -> None:
    """Writes it, atomically: one line for each reward."""
    whole = {k: v for k, v in record.items() if k != "rewards"}
    head = json.dumps(whole, indent=1, allow_nan=False)[:-2]
    rows = ",\n".join(f"  {json.dumps(r, allow_nan=False)}" for r in record["rewards"])
    write_text(path, f'{head},\n "rewards": [\n{rows}\n ]\n}}\n')


def for_package(record: Mapping[str, Any]) -> dict[str, Any]:
    """What an installed plaudit quotes: the rates without the single audits."""
    return {k: v for k, v in record.items() if k != "rewards"}


def misses(record: Mapping[str, Any], effort: float) -> list[Mapping[str, Any]]:
    """The planted flaws that no right check found, and the healthy rewards with a high finding."""
    return [r for r in record["rewards"] if r["effort"] == effort and (
        r.get("caught") is False or "high" in r["found"].values() and r["name"].startswith("healthy:"))]


def _reward(row: Row, entry: Entry, *, timed: bool) -> dict[str, Any]:
    out = {"effort": row["effort"], **entry.to_json(), "found": row["found"]}
    if entry.flawed:
        out["caught"] = caught(row, entry, list(row["checks"]))
    else:
        del out["caught_by"], out["split"]
    out |= {"titles": row["titles"], "skipped": [c for c, s in row["checks"].items() if s == "skipped"],
            "safe": row["safe"], "verdict": row["verdict"], "steps": row["steps"], "error": row["error"],
            **{k: row["measured"][k] for k in ("code", "commit", "device") if k in row["measured"]}}
    return {**out, "cpu_s": row["measured"]["cpu_s"]} if timed else out


def _codes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many audits each version of the code made."""
    made: dict[tuple[str, str], int] = {}
    for r in rows:
        key = r["measured"]["commit"], r["measured"]["code"]
        made[key] = made.get(key, 0) + 1
    return [{"commit": commit, "hash": code, "audits": n} for (commit, code), n in sorted(made.items())]
