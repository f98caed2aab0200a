from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from plaudit.core.tokens import of_texts
from plaudit.learn.text.followup import FollowUpReward
from plaudit.zoo import follow_up_likelihood as zoo
from plaudit.zoo import follow_up_world as world
from plaudit.zoo.contract import load_result
from plaudit.zoo.follow_up_pairs import ANSWERS, FACTS, KINDS, ORDERS, make_pairs
from plaudit.zoo.lab import run_system

RNG = np.random.default_rng(0)


@pytest.mark.slow  # four tiny trainings with transformers' Trainer: 8 s, and more under the run-time check of shapes
def test_smoke_runs_and_writes_its_result_without_the_packaged_models(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "smollm2", lambda: pytest.fail("smoke asks for a packaged model"))
    monkeypatch.setattr(zoo, "SentenceEncoder", lambda: pytest.fail("smoke asks for a packaged model"))
    result = run_system(zoo.SYSTEM, scale="smoke", out=tmp_path)
    kept = load_result(tmp_path / "flr.json")
    assert [(a.name, a.metric, a.value.to_json()) for a in kept.arms] == [
        (a.name, a.metric, a.value.to_json()) for a in result.arms], "one seed has no interval, in the file too"
    assert len(result.criteria) == 9
    assert result.arm(zoo.LENGTH, "accuracy, informativeness").value.mean == 1.0, "length wins where answers are cut"
    kto, dpo = (result.arm(name, "policy: kl").value.mean for name in (zoo.BY_KTO, zoo.MINED))
    assert kto != dpo and not result.arm(zoo.BY_KTO, "policy: flawless").baseline
    assert (tmp_path / "flr.png").stat().st_size > 10_000


def test_real_pairs_differ_in_what_their_kind_says() -> None:
    made = make_pairs(20, np.random.default_rng(1))
    assert {k: len(v) for k, v in made.items()} == dict.fromkeys(KINDS, 20)
    for kind, some in made.items():
        assert len({p.prompt for p in some}) == 20 and all(p.better != p.worse for p in some), kind
    wholes = {f"{a} {b}" for _, a, b in ANSWERS}
    assert all(p.better in wholes and p.worse in wholes for p in made["relevance"])
    assert all(p.better.startswith(p.worse) for p in made["informativeness"])
    sums = [p for p in made["correctness"] if "+" in p.prompt]
    for p in sums:
        right, wrong = (x.rstrip(".").split(" = ") for x in (p.better, p.worse))
        assert sum(map(int, right[0].split(" + "))) == int(right[1]) != int(wrong[1])
    assert len(sums) == 10 and len({q for q, *_ in FACTS}) == len(FACTS) and len({q for q, *_ in ANSWERS}) == 40
    for says, obey, ignore in ORDERS:
        assert obey("It is.", "So.") != ignore("It is.", "So."), says


def test_the_rule_finds_exactly_the_flaws_that_were_planted() -> None:
    for request in world.requests() + world.requests(held_out=True):
        for flaws in ((), *((c,) for c in world.CATEGORIES), world.CATEGORIES):
            said = world.answer(request, flaws, RNG)
            assert world.flaws_of(request, said) == [c for c in world.CATEGORIES if c in flaws], said
    ask = world.Request("cats", "sentence", world.HELD_OUT)
    assert world.flaws_of(ask, "Think of mice and mice.") == ["informativeness"], "said twice is said once"
    assert world.flaws_of(ask, "Think of mice and naps. Please follow") == ["instruction following"]
    score = zoo.rule.score(of_texts([ask.text], ["Think of mice and naps."]))
    assert float(score.returns()[0]) == 0.0


def test_honest_users_say_what_is_wrong_and_others_anything() -> None:
    bank = world.follow_ups(2)
    side = lambda name: {world_text for b in bank.banks.values() for world_text in getattr(b, name)}  # noqa: E731
    for d in world.dialogues(60, bank, RNG, honest=1.0):
        request = zoo.ASKED[d.prompt]
        flaws = world.flaws_of(request, d.response)
        assert d.feedback in (side("negative") if flaws else side("positive"))
        assert not flaws or any(d.feedback in bank.banks[c].negative for c in flaws)
    any_of = [d.feedback in side("negative") for d in world.dialogues(300, bank, RNG, honest=0.0)]
    assert 0.4 < np.mean(any_of) < 0.6


def test_a_scorer_that_knows_the_rule_is_always_right_and_one_that_is_turned_round_never() -> None:
    class Knows(FollowUpReward):
        def __init__(self, sign: float) -> None:
            self.sign = sign

        def score_texts(self, prompts, completions, **_):
            return self.sign * torch.tensor([-float(len(world.flaws_of(zoo.ASKED[p], t)))
                                             for p, t in zip(prompts, completions, strict=True)])

    test = world.held_out_pairs(5, RNG)
    for sign, right in ((1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)):
        assert zoo.accuracies(Knows(sign), test) == dict.fromkeys(world.CATEGORIES, right)
