"""The record is made of parts: a kill loses one audit, shards are the whole, equal audits give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plaudit.auditing.record import running
from plaudit.auditing.record.building import build, save
from plaudit.auditing.record.rewards import chosen, entries, in_order
from plaudit.auditing.record.running import audit_one, collect, jobs_of, run_record, shard_of
from plaudit.cli.main import main
from plaudit.core.errors import BadInput

TINY = 0.005
NAMES = ["flaw:lingering", "healthy:twin/lingering"]


def made(name, effort, seed, commit="", device="cpu"):
    """A stand-in for an audit: as fast as it can be."""
    found = {"exploit": "high"} if name.startswith("flaw") else {}
    return {"name": name, "effort": effort, "seed": seed, "found": found, "titles": {}, "safe": None, "steps": 3,
            "checks": {"exploit": "finding" if found else "pass"}, "verdict": "", "error": None,
            "measured": {"cpu_s": 0.1, "commit": commit, **({} if device == "cpu" else {"device": device})}}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(running, "audit_one", made)
    monkeypatch.setattr(running, "code_version", lambda: "v1")


def bytes_of(parts: Path, out: Path) -> bytes:
    save(build(collect(parts), names=NAMES, timed=False), out)
    return out.read_bytes()


def test_shards_are_the_whole_and_share_nothing():
    jobs = jobs_of(efforts=[1.0, 5.0])
    shards = [shard_of(jobs, f"{k}/3") for k in (1, 2, 3)]
    names = [(j["name"], j["effort"]) for s in shards for j in s]
    assert sorted(names) == sorted((j["name"], j["effort"]) for j in jobs) and len(set(names)) == len(jobs)
    assert len(jobs) == 2 * len(entries())


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(BadInput, match="shard"):
        shard_of([], text)


def test_dear_efforts_begin_with_the_cheap_tasks_and_the_default_is_mixed():
    by_name = {e.name: e.world for e in entries()}
    worlds = [e.world for e in in_order(entries(), cheap_first=True)]
    assert worlds == sorted(worlds, key=["grid", "classic", "mujoco"].index)
    assert len({by_name[j["name"]] for j in jobs_of(efforts=[1.0])[:12]}) == 3


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(quick, tmp_path):
    jobs = jobs_of(efforts=[1.0], names=NAMES)
    run_record(jobs, parts=tmp_path / "whole")

    def killed(done, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_record(jobs, parts=tmp_path / "parts", progress=killed)
    assert len(collect(tmp_path / "parts")) == 1
    again = []
    run_record(jobs, parts=tmp_path / "parts", progress=lambda done, text: again.append(text))
    assert len(again) == 1
    assert bytes_of(tmp_path / "parts", tmp_path / "a.json") == bytes_of(tmp_path / "whole", tmp_path / "b.json")


def test_shards_in_one_folder_give_the_bytes_of_one_run(quick, tmp_path):
    jobs = jobs_of(efforts=[1.0], names=NAMES)
    run_record(jobs, parts=tmp_path / "whole")
    for k in (2, 1):
        run_record(shard_of(jobs, f"{k}/2"), parts=tmp_path / "shards")
    assert bytes_of(tmp_path / "shards", tmp_path / "a.json") == bytes_of(tmp_path / "whole", tmp_path / "b.json")


def test_changed_code_runs_anew_unless_old_audits_are_kept(quick, monkeypatch, tmp_path):
    jobs = jobs_of(efforts=[1.0], names=NAMES)
    run_record(jobs, parts=tmp_path, commit="old")
    monkeypatch.setattr(running, "code_version", lambda: "v2")
    run_record(jobs, parts=tmp_path, keep=True, redo=[NAMES[0]], commit="new")
    made_by = {r["name"]: r["measured"]["commit"] for r in collect(tmp_path)}
    assert made_by == {NAMES[0]: "new", NAMES[1]: "old"}
    assert [c["audits"] for c in build(collect(tmp_path), names=NAMES)["code"]] == [1, 1]
    run_record(jobs, parts=tmp_path, commit="new")
    assert {r["measured"]["commit"] for r in collect(tmp_path)} == {"new"}
    assert len(collect(tmp_path, version="v2")) == 2


def test_the_device_reaches_the_audit_and_one_that_is_not_here_is_refused_before_any(quick, tmp_path):
    assert str(audit_one(NAMES[0], TINY, 3, device="meta")["error"]).startswith("device: expected")
    with pytest.raises(BadInput, match="device: expected"):
        run_record(jobs_of(efforts=[1.0], names=NAMES), parts=tmp_path, device="meta")
    assert main(["audit-record", "--device", "meta", "--parts", str(tmp_path), "--out", str(tmp_path / "out")]) != 0
    assert main(["audit-record", "--kind", "text", "--device", "cuda"]) != 0
    assert not list(tmp_path.iterdir())


def test_audits_of_another_device_are_made_anew_and_say_where(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(running, "check_device", str)
    jobs = jobs_of(efforts=[1.0], names=NAMES)
    for device, expected in (("cpu", {None}), ("cuda", {"cuda"})):
        run_record(jobs, parts=tmp_path, device=device)
        rows = collect(tmp_path)
        assert {r["measured"].get("device") for r in rows} == expected and len(rows) == 2
    assert {r["device"] for r in build(rows, names=NAMES)["rewards"]} == {"cuda"}


def test_a_half_written_part_is_none(quick, tmp_path):
    run_record(jobs_of(efforts=[1.0], names=NAMES), parts=tmp_path)
    first = next(iter(tmp_path.glob("*.json")))
    first.write_text(first.read_text()[:50])
    assert len(collect(tmp_path)) == 1


def test_unknown_names_are_refused_before_any_work():
    with pytest.raises(BadInput, match="flaw:nothing"):
        chosen(["flaw:nothing"])


def test_an_audit_of_the_record_runs_all_checks():
    one = audit_one(NAMES[0], TINY, 3)
    assert set(one["checks"]) == {"contract", "scale", "incentives", "exploit", "distance", "fragility"}
    assert one["steps"] > 0 and one["error"] is None and json.dumps(one, allow_nan=False)


def test_the_command_assembles_what_is_finished_and_says_how_much(quick, tmp_path, capsys):
    run_record(jobs_of(efforts=[1.0], names=NAMES), parts=tmp_path / "parts")
    out = tmp_path / "record.json"
    words = ["--assemble", "--effort", "1", "--parts", str(tmp_path / "parts"), "--out", str(out)]
    assert main(["audit-record", *words]) == 0
    said = capsys.readouterr().out
    assert f"1 of {sum(e.flawed for e in entries())} flaws" in said
    record = json.loads(out.read_text())
    assert [r["name"] for r in record["rewards"]] == NAMES and record["rewards"][0]["caught"] is True
    assert out.with_suffix(".png").stat().st_size > 1000
