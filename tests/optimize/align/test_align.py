"""Whole runs: where the optimum is known, they reach it; unknown rewards teach nothing; a kill changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from plaudit.core.algebra import Constant, Constrained
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError, UnknownReward
from plaudit.core.functions import reward
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.schedules import LagrangeMultiplier, Linear, TargetController
from plaudit.core.score import Score
from plaudit.optimize.align import (
    AlignConfig,
    AlignResult,
    TablePolicy,
    TableReward,
    align,
    measure,
    pairs_of_texts,
    tilted,
)

BETA = 0.5
VALUES = torch.tensor([[0.0, 1.0, -0.5, 0.3], [0.8, 0.0, 0.4, -1.0]])
LOGITS = torch.tensor([[0.2, -0.4, 0.3, 0.0], [0.0, 0.5, -0.2, 0.1]])
RECIPES = {
    "rloo": AlignConfig(prompts=8, samples=16, lr=Linear(0.2, 0.005), beta=BETA),
    "rloo, loss k2": AlignConfig(prompts=8, samples=16, lr=Linear(0.2, 0.005), beta=BETA, kl_in="loss"),
    "rloo, loss exact": AlignConfig(prompts=8, samples=16, lr=Linear(0.2, 0.005), beta=BETA, kl_in="loss",
                                    kl_loss="exact"),
    "ppo": AlignConfig(prompts=8, samples=16, lr=Linear(0.06, 0.002), beta=BETA, epochs=2, minibatch=64, whiten=False,
                       value_hidden=8, value_lr=0.02),
    "dpo": AlignConfig(prompts=8, samples=16, lr=Linear(0.2, 0.005), beta=BETA, labels="soft"),
}


def distance(policy: TablePolicy, best: Tensor) -> float:
    """The largest total variation of a prompt."""
    return float((policy.log_p().detach().exp() - best.exp()).abs().sum(-1).max() / 2)


def aligned(recipe: AlignConfig, algo: str, *, steps: int = 45) -> TablePolicy:
    policy = TablePolicy(LOGITS)
    align(policy, TableReward(VALUES, vocab=4), [0, 1], algo=algo, steps=steps, config=recipe,
          progress=False)
    return policy


@pytest.mark.parametrize("name", RECIPES)
def test_the_optimum_of_the_penalised_reward_is_reached(name: str) -> None:
    start = TablePolicy(LOGITS)
    best = tilted(start.log_p().detach(), VALUES, BETA)
    assert distance(start, best) > 0.35
    assert distance(aligned(RECIPES[name], name.split(",")[0]), best) < 0.05


@pytest.mark.slow  # three more runs; under the run-time check of shapes 2 s of CPU
def test_other_penalties_and_labels_reach_another_policy() -> None:
    best = tilted(TablePolicy(LOGITS).log_p().detach(), VALUES, BETA)
    towards = replace(RECIPES["rloo, loss k2"], kl_loss="k3")
    assert distance(aligned(towards, "rloo"), best) > 0.05, "KL(reference || policy) has another optimum"
    assert distance(aligned(replace(RECIPES["dpo"], labels="hard"), "dpo"), best) > 0.1, "hard labels exaggerate"
    assert distance(aligned(replace(RECIPES["rloo"], beta=0.0), "rloo"), best) > 0.15, "no penalty"


class EachToken(Reward):
    """Pays for every token that is a 1, at once."""

    needs = Needs(time="prefix")
    name = "ones"

    def evaluate(self, episodes: Episodes) -> Score:
        return Score.of((episodes.action == 1).float(), mask=episodes.mask)


@pytest.mark.parametrize("algo", ["rloo", "ppo"])
def test_rewards_of_tokens_reach_their_optimum_too(algo: str) -> None:
    policy = TablePolicy(torch.zeros(1, 7, 2), length=3)
    values = torch.tensor([[float(bin(c).count("1")) for c in range(8)]])
    best = tilted(policy.log_p().detach(), values, 1.0)
    recipe = replace(RECIPES[algo], beta=1.0)
    result = align(policy, EachToken(), [0], algo=algo, steps=40, config=recipe, progress=False)
    assert distance(policy, best) < 0.06
    assert result.curve("length") == [3.0] * 40


def test_given_pairs_teach_what_their_labels_say() -> None:
    """DPO on every pair with the chances of a Bradley-Terry judge has the same closed form."""
    policy = TablePolicy(LOGITS)
    rows = [(x, a, b) for x in range(2) for a in range(4) for b in range(4) if a != b]
    label = [float(torch.sigmoid(VALUES[x, a] - VALUES[x, b])) for x, a, b in rows]
    pairs = pairs_of_texts(policy, [x for x, _, _ in rows], [[a] for _, a, _ in rows], [[b] for _, _, b in rows],
                           label=label)
    best = tilted(policy.log_p().detach(), VALUES, BETA)
    result = align(policy, TableReward(VALUES, vocab=4), [0, 1], algo="dpo", pairs=pairs, steps=80, progress=False,
                   config=AlignConfig(prompts=24, samples=2, beta=BETA, lr=Linear(0.2, 0.01)))
    assert distance(policy, best) < 0.02
    assert result.curve("reward")[-1] > result.curve("reward")[0], "and it is measured on samples of its own"


def test_unknown_rewards_are_left_out_and_never_zero() -> None:
    """All known rewards are below 0: an unknown that counted as 0 would draw the policy to it."""
    values = torch.tensor([[-2.0, -1.0, torch.nan]])
    for algo in ("rloo", "ppo", "dpo"):
        policy = TablePolicy(torch.zeros(1, 3))
        result = align(policy, TableReward(values, vocab=3), [0], algo=algo, steps=40, progress=False,
                       config=replace(RECIPES[algo], beta=0.02, prompts=2))
        p = policy.log_p()[0].exp().detach()
        assert float(p[1]) > 0.6 and float(p[1]) > 2 * float(p[2]), algo
        assert result.curve("unknown")[0] > 0 and all(-2 <= r <= -1 for r in result.curve("reward"))
    zero = TablePolicy(torch.zeros(1, 3))
    align(zero, TableReward(values.nan_to_num(), vocab=3), [0], steps=40, config=replace(
        RECIPES["rloo"], beta=0.02, prompts=2), progress=False)
    assert float(zero.log_p()[0, 2].detach().exp()) > 0.9, "the broken variant"
    with pytest.raises(UnknownReward):
        align(TablePolicy(torch.zeros(1, 3)), TableReward(values, vocab=3), [0], steps=9, on_unknown="stop",
              config=RECIPES["rloo"], progress=False)


def test_nothing_known_moves_nothing() -> None:
    policy = TablePolicy(LOGITS)
    result = align(policy, TableReward(torch.full((2, 4), torch.nan), vocab=4), [0, 1], steps=3, progress=False,
                   config=RECIPES["rloo"])
    assert torch.equal(policy.table[:, 0], LOGITS) and result.curve("skipped") == [1.0] * 3
    assert all(map(math.isnan, result.curve("reward")))


def test_train_watch_and_gold_are_curves() -> None:
    gold = VALUES.clone()
    gold[0, 1] = -3.0  # what the train reward likes best
    result = align(TablePolicy(LOGITS), TableReward(VALUES, vocab=4), [0], steps=40, progress=False,
                   watch=[EachToken()], gold=TableReward(gold, vocab=4, name="truth"),
                   config=replace(RECIPES["rloo"], beta=0.05, measure_every=5))
    trained, true = result.curve("reward"), result.curve("gold/truth")
    assert trained[-1] > trained[0] and true[-1] < true[0] - 1, "over-optimised, and it shows"
    assert result.curve("watch/ones")[-1] > 0.8 and math.isnan(true[1]) and not math.isnan(true[5])
    assert result.curve("kl")[-1] > result.curve("kl")[0] >= -0.1
    with pytest.raises(BadInput, match="name: expected one of"):
        result.curve("reward/x")
    found = measure(result.policy, result.reference, [0], [TableReward(gold, vocab=4, name="truth")], n=50)
    assert found["truth"] < -1 and found["length"] == 1 and found["kl"] > 0.3


@pytest.mark.slow  # two runs of 60 steps; under the run-time check of shapes 2 s of CPU
def test_the_price_of_kl_can_be_controlled() -> None:
    config = replace(RECIPES["rloo"], beta=TargetController("kl", 0.1, initial=0.3, rate=0.1))
    result = align(TablePolicy(LOGITS), TableReward(VALUES, vocab=4), [0, 1], steps=60, config=config, progress=False)
    assert 0.03 < sum(result.curve("kl")[-20:]) / 20 < 0.3
    assert result.curve("beta")[-1] > result.curve("beta")[0]
    assert not sum(align(TablePolicy(LOGITS), TableReward(VALUES, vocab=4), [0, 1], steps=60, progress=False, config=(
        replace(config, beta=0.05))).curve("kl")[-20:]) / 20 < 0.5


def test_a_constraint_holds_the_mean_cost_of_a_token_at_its_limit() -> None:
    """Token 3 alone pays and costs 1. Its odds are e^((1 - price) / beta) / 3: 0.4 needs a price of 1 - beta ln 2."""
    pay = TableReward(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), vocab=4, name="pay")
    dear = TableReward(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), vocab=4, name="dear")
    price = LagrangeMultiplier("cost", 0.4, rate=0.1)

    def chosen(reward: Reward) -> AlignResult:
        return align(TablePolicy(torch.zeros(1, 4)), reward, [0], watch=[dear], steps=150, progress=False,
                     config=AlignConfig(prompts=1, samples=128, lr=0.1, beta=0.5))

    assert sum(chosen(pay).curve("watch/dear")[-30:]) / 30 > 0.6
    held = chosen(Constrained(pay, dear, limit=0.4, multiplier=price))
    assert held.curve("cost") == pytest.approx(held.curve("watch/dear")), "one token each"
    assert sum(held.curve("cost")[-30:]) / 30 == pytest.approx(0.4, abs=0.05)
    assert price.value == pytest.approx(1 - 0.5 * math.log(2), abs=0.1) and price.updates == 150


def test_a_controller_of_what_no_step_reports_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for metric, times in (("klm", 1), ("kl", 0)):
        caplog.clear()
        align(TablePolicy(LOGITS), TableReward(VALUES, vocab=4), [0, 1], steps=3, progress=False,
              config=replace(RECIPES["rloo"], beta=TargetController(metric, 0.1)))
        said = [r.getMessage() for r in caplog.records if "no value of" in r.getMessage()]
        assert len(said) == times
        assert not times or "did you mean kl?" in said[0] and "entropy" in said[0]


class Killed(Exception):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("algo", ["rloo", "ppo", "dpo", "kto", "rft"])
def test_a_kill_and_resume_give_the_same_bytes(algo: str, tmp_path: Path) -> None:
    recipe = replace(RECIPES.get(algo, RECIPES["dpo"]), prompts=2, beta=TargetController("kl", 0.1))

    def run(folder: Path, *, kill: int = 0, resume: bool = False) -> None:
        def on_step(step: int, row: dict[str, float]) -> None:
            if step == kill:
                raise Killed

        align(TablePolicy(LOGITS), TableReward(VALUES, vocab=4), [0, 1], algo=algo, steps=12,
              config=replace(recipe, beta=TargetController("kl", 0.1)), out=folder, resume=resume,
              checkpoint_every=5, on_step=on_step, progress=False)

    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill=8)
    with pytest.raises(BadInput, match="resume=True"):
        run(tmp_path / "killed")
    run(tmp_path / "killed", resume=True)
    for name in ("policy.safetensors", "checkpoint.safetensors", "history.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    with pytest.raises(BadInput, match="reference: expected what the interrupted run had"):
        align(TablePolicy(LOGITS + 1e-3 * torch.arange(4)), TableReward(VALUES, vocab=4), [0, 1], algo=algo, steps=12,
              config=replace(recipe, beta=TargetController("kl", 0.1)), out=tmp_path / "whole", resume=True,
              progress=False)


def test_a_few_rows_at_a_time_have_the_same_gradient() -> None:
    for algo in ("rloo", "dpo"):
        whole, parts = (aligned(replace(RECIPES[algo], rows=rows), algo, steps=3) for rows in (None, 5))
        assert torch.allclose(whole.table, parts.table, atol=1e-5), algo


def test_a_loss_that_is_not_finite_stops_and_names_the_rows(tmp_path: Path) -> None:
    @reward
    def grows(action: Tensor) -> Tensor:
        return action * 3e38

    with pytest.raises(PlauditError, match="not finite at rows"):
        align(TablePolicy(LOGITS), grows, [0, 1], steps=5, config=RECIPES["rloo"], out=tmp_path / "run",
              progress=False)


def test_progress_is_told_and_a_hook_ends_the_run() -> None:
    told: list[float] = []
    result = align(TablePolicy(LOGITS), TableReward(VALUES, vocab=4), [0, 1], steps=10, config=RECIPES["rloo"],
                   progress=lambda share, text: told.append(share), on_step=lambda step, row: step == 4)
    assert told == [0.1, 0.2, 0.3, 0.4] and len(result.history) == 4


@pytest.mark.parametrize(("options", "says"), [
    ({"algo": "grpo"}, "algo: expected rloo, ppo, dpo, kto or rft"), ({"steps": 0}, "steps"),
    ({"on_unknown": "zero"}, "on_unk"),
    ({"resume": True}, "out"), ({"watch": [EachToken(), EachToken()]}, "names of their own"),
])
def test_bad_input_is_named(options: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        align(TablePolicy(LOGITS), EachToken(), [0], config=RECIPES["rloo"], progress=False, **options)
    with pytest.raises(BadInput, match="prompts"):
        align(TablePolicy(LOGITS), EachToken(), [], progress=False)
    with pytest.raises(BadInput, match="pairs"):
        align(TablePolicy(LOGITS), EachToken(), [0], progress=False, pairs=pairs_of_texts(
            TablePolicy(LOGITS), [0], [[0]], [[1]]))
    with pytest.raises(BadInput, match="gradient of k1"):
        replace(RECIPES["rloo"], kl_in="loss", kl_loss="k1")
    with pytest.raises(BadInput, match="clip"):
        AlignConfig(clip=-0.1)


def test_a_run_on_other_pairs_is_not_gone_on_with(tmp_path: Path) -> None:
    def run(second: int, *, resume: bool) -> None:
        policy = TablePolicy(LOGITS)
        align(policy, None, [0], algo="dpo", pairs=pairs_of_texts(policy, [0], [[0]], [[second]]), steps=2,
              config=AlignConfig(prompts=1, samples=2, lr=0.1), out=tmp_path, resume=resume, progress=False)

    run(1, resume=False)
    run(1, resume=True)
    with pytest.raises(BadInput, match="pairs: expected what the interrupted run had"):
        run(2, resume=True)


def test_a_run_does_not_go_on_with_another_reward_of_the_same_name(tmp_path: Path) -> None:
    def run(weight: float, steps: int, *, watched: float = 1.0, resume: bool = True) -> None:
        align(TablePolicy(LOGITS), (weight * Constant(1.0)).named("pay"), [0, 1], steps=steps, out=tmp_path / "run",
              watch=[Constant(watched).named("seen")], config=RECIPES["rloo"], resume=resume, progress=False)

    run(1.0, 2, resume=False)
    run(1.0, 3)
    with pytest.raises(BadInput, match="reward pay: expected the reward of the interrupted run, received another"):
        run(2.0, 4)
    with pytest.raises(BadInput, match="reward seen"):
        run(1.0, 4, watched=2.0)
