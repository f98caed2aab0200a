"""`plaudit audit flaw:NAME` and `healthy:NAME`: any row of the flaw collection, named in one word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plaudit.auditing.flaws import flaw, flaws, healthy
from plaudit.auditing.flaws.spelling import spelt_out
from plaudit.auditing.intent import parse_intent
from plaudit.auditing.subject import recognise
from plaudit.cli.audit import AuditArgs, first_words
from plaudit.core.consent import load_with_consent
from plaudit.core.errors import BadInput

GRID = [f.name for f in flaws() if "grid" in f.tags]


@pytest.mark.slow  # whole audits, with their searches
def test_a_planted_flaw_is_audited_with_its_own_task_and_intent(run, here):
    ran = run("audit", "flaw:console", "--steps", "2000", "--only", "exploit", "--out", "out")
    assert ran.code == 1, ran.err
    report = json.loads(Path("out/report.json").read_text())
    assert [f["check"] for f in report["findings"]] == ["exploit"] * len(report["findings"]) != []
    assert "intent: its own" in ran.out


@pytest.mark.slow  # whole audits, with their searches
def test_a_healthy_reward_is_audited_and_passes(run, here):
    ran = run("audit", "healthy:twin/console", "--steps", "2000", "--only", "exploit", "contract", "--out", "out")
    assert ran.code == 0, ran.out + ran.err


@pytest.mark.slow  # whole audits, with their searches
def test_a_witness_of_a_flaw_of_another_strength_is_played_again(run, here):
    assert run("audit", "flaw:lingering/0.3", "--steps", "3000", "--only", "exploit", "--out", "out").code == 1
    ran = run("replay", "out/witness-01.json")
    assert ran.code == 0, ran.err


def test_a_witness_may_load_every_member_without_further_consent():
    for member in [*flaws(), *healthy()]:
        for text in (member.target, member.wanted.rpartition(":")[0]):
            assert text is None or callable(load_with_consent({"target": text}, trust=False).thing)


def test_what_the_collection_only_imports_needs_consent():
    with pytest.raises(BadInput, match="--trust"):
        load_with_consent({"target": "plaudit.auditing.flaws.named:boat_race.reward.__globals__"}, trust=False)


@pytest.mark.parametrize("name", GRID)
def test_what_the_name_stands_for_is_the_flaw(name):
    target, env, intent = spelt_out(f"flaw:{name}")
    found, f = recognise(target, env=env), flaw(name)
    assert found.task.name == f.task().name
    e = f.task().transitions()
    assert parse_intent(intent).reduce == f.reduce
    mine, theirs = f.reward().score(e), found.reward.score(e)
    if f.kind != "hidden state":
        assert mine.known.equal(theirs.known) and mine.value[mine.known].equal(theirs.value[theirs.known])


def test_every_member_is_spelt_out_in_words_that_differ():
    every = [spelt_out(f"flaw:{f.name}") for f in flaws()] + [spelt_out(f"healthy:{h.name}") for h in healthy()
                                                              if h.origin != "twin"]
    assert len(set(every)) == len(every)


def test_an_unknown_name_offers_near_ones_and_makes_nothing(run, here):
    ran = run("audit", "flaw:boatrace")
    assert ran.code == 2 and "did you mean boat_race" in ran.err
    assert not Path("audits").exists()


def test_an_intent_or_environment_beside_it_is_refused(run, here):
    ran = run("audit", "flaw:boat_race", "--intent", "env")
    assert ran.code == 2 and "has its own" in ran.err and "intent" in ran.err
    assert "has its own" in run("audit", "healthy:gymnasium/CartPole-v1", "--env", "CartPole-v1").err


def test_the_first_words_say_where_the_intent_comes_from():
    assert "intent: its own" in first_words(AuditArgs(target="flaw:boat_race"))
    assert "looked for in info" in first_words(AuditArgs(target="CartPole-v1"))
