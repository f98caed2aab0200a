from __future__ import annotations

import pytest

from plaudit.auditing import context as module
from plaudit.auditing.context import AuditContext
from plaudit.auditing.intent import InfoReward
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.optimize.behaviours import Budget, Found
from plaudit.optimize.parcels import pack_reward, unpack_reward
from plaudit.tasks.classic import CartPole


def found(reward, task, budget, **options):
    return Found(behaviours=[], reward=reward, steps=7, plan={}, budget=budget, config={"ray": options["ray"]})


def audited(**changes):
    return AuditContext(task=CartPole(), reward=EnvReward(), intent=None, budget=Budget(steps=1000), **changes)


def test_searches_go_to_the_workers(monkeypatch):
    monkeypatch.setattr(module, "maximise", found)
    workers = object()
    assert audited(ray=workers).found.config["ray"] is workers
    assert audited().found.config["ray"] is None


def test_what_cannot_travel_is_searched_here_and_that_is_said(monkeypatch):
    def stays(reward, task, budget, **options):
        if options["ray"] is not None:
            raise Unsupported("it is a lambda")
        return found(reward, task, budget, **options)

    monkeypatch.setattr(module, "maximise", stays)
    told = []
    one = audited(ray=object(), progress=lambda done, text: told.append(text))
    assert one.found.config["ray"] is None
    assert one.spent == {"reward": 7}
    assert told == ["searching the reward in this process: it is a lambda"]


def test_other_errors_are_not_swallowed(monkeypatch):
    def fails(reward, task, budget, **options):
        raise BadInput("ray", expected="a running Ray", received="none") if options["ray"] else Unsupported("no box")

    monkeypatch.setattr(module, "maximise", fails)
    with pytest.raises(BadInput, match="a running Ray"):
        audited(ray=object()).search(EnvReward(), share="reward")
    with pytest.raises(Unsupported, match="no box"):
        audited().search(EnvReward(), share="reward")


def test_intent_from_info_travels():
    again = unpack_reward(pack_reward(InfoReward("is_success")))
    assert (type(again), again.key, again.needs) == (InfoReward, "is_success", InfoReward("is_success").needs)
