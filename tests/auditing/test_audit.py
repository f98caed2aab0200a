"""`plaudit.audit`: hopeless input is refused before the search, one bad check costs nothing, the same seed repeats."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import plaudit
from plaudit.auditing.audit import Event, audit
from plaudit.auditing.check import checks, register, unregister
from plaudit.auditing.checks import BUILT_IN
from plaudit.auditing.finding import Finding, Skipped
from plaudit.core.errors import BadInput, PlauditError
from plaudit.optimize import maximise as maximise_module


@dataclass(frozen=True)
class Says:
    """A check that does what the test says."""

    name: str = "says"
    question: str = "What does it say?"
    answer: Any = field(default_factory=list)

    def run(self, context):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(context) if callable(self.answer) else self.answer


def note(name: str, severity: str = "low", cost: float = 0.0) -> Finding:
    return Finding(check=name, severity=severity, title=f"{name} {severity} {cost}", cost=cost)


@pytest.fixture
def plug():
    """Registers checks for the test."""
    names: list[str] = []

    def add(name: str, answer: Any) -> None:
        register(Says(name, answer=answer))
        names.append(name)

    yield add
    for name in names:
        unregister(name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).with_name("boat_world.py"), tmp_path / "boat.py")
    return tmp_path


def look(target="boat.py:progress", **options):
    env = {} if ":" in target and target.split(":")[1][0].isupper() else {"env": "boat.py:Boat"}
    return audit(target, **{"steps": 1000, **env, **options})


# --- plug-ins ----------------------------------------------------------------------------------------


def test_a_check_of_ones_own_runs_after_the_built_in_ones_and_its_findings_are_ranked(here, plug):
    plug("mine", [note("mine"), note("mine", "high", 0.1), note("mine", "high", 0.9)])
    assert [c.name for c in checks()] == [*BUILT_IN, "mine"]
    report = look(only=["mine"])
    assert [f.cost for f in report.findings] == [0.9, 0.1, 0.0] and report.fails("high")
    assert report.checks[0].status == "finding" and report.verdict.safe is False


def test_a_check_that_crashes_is_skipped_with_its_reason_and_costs_the_others_nothing(here, plug):
    plug("first", [note("first")])
    plug("crashes", ZeroDivisionError("a bug"))
    plug("declines", Skipped("nothing to see"))
    plug("last", [note("last")])
    report = look(only=["first", "crashes", "declines", "last"])
    assert [f.check for f in report.findings] == ["first", "last"]
    assert {c.name: c.status for c in report.checks} == {"first": "finding", "crashes": "skipped",
                                                         "declines": "skipped", "last": "finding"}
    assert "ZeroDivisionError: a bug" in report.checks[1].why and report.checks[2].why == "nothing to see"


@pytest.mark.parametrize("check", [Says("contract"), Says("twice")])
def test_a_name_that_is_taken_is_refused(plug, check):
    plug("twice", [])
    with pytest.raises(BadInput):
        register(check)
    with pytest.raises(BadInput):
        unregister("never registered")


def test_only_names_checks_that_exist(here):
    with pytest.raises(BadInput, match="names out of contract, scale"):
        look(only=["contrat"])


# --- before the search -------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "expected"), [
    ({"target": "boat.py:fails"}, r"KeyError: 'velocity' \(boat.py line \d+\)"),
    ({"target": "boat.py:wrong_shape"}, "shape"),
    ({"target": "boat.py:hangs", "time_limit_s": 0.3}, "did not answer within 0.3 s"),
    ({"target": "boat.py:hangs_and_catches", "time_limit_s": 0.3}, "did not answer within 0.3 s"),
    ({"target": "boat.py:StepFails"}, "step 7 of row 0 .* raised RuntimeError: the motor broke"),
    ({"target": "boat.py:ResetFails"}, r"reset\(seed=0\) raised RuntimeError: no water"),
    ({"target": "boat.py:FourValues"}, "step 1 .* returned 4 values"),
    ({"intent": "info:speed"}, "it reports is_success, x"),
    ({"intent": "boat.py:fails"}, "intent: .*velocity"),
    ({"intent": "boat.py:Boat"}, "a function or a Reward"),
    ({"reference": "boat.py:number"}, "reference: expected a reward function"),
    ({"reference": "boat.py:nothing"}, "reference: expected a name"),
    ({"episodes": "nope.safetensors"}, "episodes: .*no such file"),
    ({"policy": "nope.zip"}, "policy: .*nope.zip"),
    ({"steps": None, "seconds": -1.0}, "seconds"), ({"steps": 0}, "budget.steps"), ({"discount": 1.0}, "discount"),
    ({"time_limit_s": 0.0}, "time_limit_s"),
])
def test_what_cannot_work_is_refused_before_the_search_in_one_line(here, plug, options, expected):
    plug("never", AssertionError("no check may start"))
    with pytest.raises(PlauditError, match=expected) as error:
        look(**{"only": ["never"], **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("target", "why"), [("boat.py:fails_late", "ZeroDivisionError: far away"),
                                             ("boat.py:nan_late", "NaN")])
def test_a_reward_that_fails_at_some_steps_is_audited_and_the_step_is_named(here, plug, target, why):
    seen: list[Event] = []
    plug("counts", lambda context: [note("counts", cost=float(context.reward.score(context.random).known.double()
                                                              .mean()))])
    report = look(target, only=["counts"], listen=seen.append)
    assert 0.2 < report.findings[0].cost < 1.0, "steps that can be scored must stay known"
    notes = [e.text for e in seen if e.kind == "note"]
    assert any(why in text and "first at step" in text for text in notes)


def test_a_reward_that_hangs_in_the_search_is_asked_three_times_and_no_more(here):
    from plaudit.core.functions import FunctionReward

    limited = plaudit.reward(lambda obs: hang(), time_limit_s=0.05)
    assert isinstance(limited, FunctionReward)
    episodes = plaudit.rollout(plaudit.make("CartPole-v1"), plaudit.tasks.policy.RandomPolicy(
        plaudit.make("CartPole-v1").action_space, 0), seeds=[1])
    reasons = [next(iter(limited.score(episodes).why)) for _ in range(5)]
    assert ["not asked any more" in r for r in reasons] == [False, False, False, True, True]


def hang():
    while True:
        pass


# --- the run -----------------------------------------------------------------------------------------


def test_the_intent_is_found_in_info_and_said_before_the_checks(here, plug):
    plug("quiet", [])
    seen: list[Event] = []
    report = look(only=["quiet"], listen=seen.append)
    assert report.intent == "info:is_success:any"
    assert [e.kind for e in seen] == ["recognised", "started", "checked", "judging"]
    assert "found in info" in seen[0].text and seen[0].checks == ["quiet"]
    look("boat.py:terms", env="boat.py:Sail", only=["quiet"], listen=seen.append)
    assert any("no intent yet" in e.text for e in seen)


def test_an_interrupted_audit_keeps_what_it_found(here, plug):
    plug("first", [note("first", "medium")])
    plug("stopped", KeyboardInterrupt())
    plug("last", [note("last", "high")])
    report = look(only=["first", "stopped", "last"])
    assert report.interrupted and [f.check for f in report.findings] == ["first"]
    assert [(c.name, c.status, c.why) for c in report.checks[1:]] == [("stopped", "skipped", "interrupted"),
                                                                      ("last", "skipped", "interrupted")]
    assert report.verdict.safe is None and report.verdict.sentence.startswith("Interrupted")
    assert report.to_dict()["interrupted"] is True
    effort = report.verdict.effort
    assert list(effort["checks"]) == ["first"] and "%" not in effort["detection"], "rates are those of whole audits"


def test_a_listener_can_have_the_report_of_what_is_known_so_far(here, plug):
    plug("first", [note("first")])
    plug("second", [note("second")])
    reports = []
    look(only=["first", "second"], listen=lambda e: reports.append(e.so_far()) if e.so_far else None)
    assert [[f.check for f in r.findings] for r in reports] == [[], ["first"]] and all(r.interrupted for r in reports)


def test_steps_and_seed_give_the_same_report(here, monkeypatch):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
    texts = []
    for _ in range(2):
        shutil.rmtree("out", ignore_errors=True)
        look(intent="info:is_success", steps=1200, seed=3, only=["exploit"]).save("out")
        texts.append(without_seconds(json.loads(Path("out/report.json").read_text())))
    assert texts[0] == texts[1] and texts[0]["seed"] == 3
    assert texts[0]["verdict"]["effort"]["steps"] > 500


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "seconds"}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def test_the_front_door_has_the_audit(here, plug):
    plug("quiet", [])
    assert plaudit.audit is audit
    report = plaudit.audit(lambda next_obs: next_obs[..., 0], env="CartPole-v1", intent=lambda obs: obs[..., 0],
                           steps=1000, only=["quiet"])
    assert isinstance(report, plaudit.AuditReport) and report.intent == "reward" and "quiet" in str(report)


# --- going on ----------------------------------------------------------------------------------------

SEARCHED: dict[str, Any] = {"intent": "info:is_success", "steps": 4000, "seed": 3, "only": ["exploit"]}


def saved(name: str, target: str = "boat.py:progress", **options: Any) -> tuple[Any, str]:
    """The report of an audit as it lies in its folder, and its notes."""
    notes: list[str] = []
    report = look(target, **{**SEARCHED, **options},
                  listen=lambda e: notes.append(e.text) if e.kind == "note" else None)
    report.save(name)
    return without_seconds(json.loads(Path(name, "report.json").read_text())), "; ".join(notes)


def stop_after(name: str, **options: Any) -> None:
    """An audit that is interrupted once a search is through."""
    def listen(event: Event) -> None:
        if event.kind == "checked" and event.check == name:
            raise KeyboardInterrupt

    assert look(**{**SEARCHED, **options}, listen=listen, keep="kept").interrupted


@pytest.mark.parametrize("last", ["search reward", "search intent"])
def test_an_audit_that_was_stopped_goes_on_to_the_same_report(here, monkeypatch, last):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
    whole, _ = saved("whole")
    stop_after(last)
    searched = []
    real = maximise_module.hunt_cem
    monkeypatch.setattr(maximise_module, "hunt_cem", lambda *args: (searched.append(1), real(*args))[1])
    resumed, notes = saved("resumed", keep="kept", resume=True)
    assert resumed == whole
    assert "going on" in notes and len(searched) == (1 if last == "search reward" else 0)
    assert not Path("kept").exists(), "what was kept is removed at the end"


def test_what_another_audit_left_is_not_gone_on_with(here, monkeypatch):
    """Other arguments, another text of the file, or no --resume: the searches begin anew."""
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
    stop_after("search reward")
    assert "nothing to go on with" in saved("seed", keep="kept", resume=True, seed=4)[1]
    assert "nothing to go on with" in saved("reward", "boat.py:beyond", keep="kept", resume=True)[1]
    file = Path("boat.py")
    text = file.read_text()
    file.write_text(text + "\n# changed\n")
    assert "nothing to go on with" in saved("changed", keep="kept", resume=True)[1]
    file.write_text(text)
    assert list(Path("kept").glob("*/*.json")), "the audits of others have removed only what was theirs"
    assert saved("anew", keep="kept")[1] == "" and not Path("kept").exists()


def test_resume_without_a_folder_is_refused(here):
    with pytest.raises(BadInput, match="keep="):
        look(resume=True)
