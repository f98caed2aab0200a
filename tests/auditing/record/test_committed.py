"""The committed record says of its rates what its own rows say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plaudit.auditing.record.quoting import Record, shipped
from plaudit.auditing.record.rates import rates_of
from plaudit.auditing.record.rewards import Entry, entries

RECORD = json.loads((Path(__file__).parents[3] / "results" / "audit-record.json").read_text(encoding="utf-8"))


def as_audited(row):
    status = {c: "finding" if c in row["found"] else "pass" for c in RECORD["config"]["checks"]}
    if row["error"]:
        status = {}
    return {**row, "checks": {**status, **dict.fromkeys(row["skipped"], "skipped")}}


@pytest.mark.parametrize("row", RECORD["efforts"], ids=lambda row: f"effort {row['effort']:g}")
def test_the_rates_are_those_of_the_rows(row):
    mine = [r for r in RECORD["rewards"] if r["effort"] == row["effort"]]
    known = {r["name"]: Entry(name=r["name"], family=r["family"], world=r["world"], split=r.get("split", ""),
                              caught_by=tuple(r.get("caught_by", ()))) for r in mine}
    again = json.loads(json.dumps(rates_of([as_audited(r) for r in mine], known)))
    assert again == {k: v for k, v in row.items() if k != "effort"}


def test_its_rewards_are_those_of_the_collection():
    assert {r["name"] for r in RECORD["rewards"]} <= {e.name for e in entries()}


def test_the_package_ships_these_rates():
    assert shipped() == Record.of(RECORD)
