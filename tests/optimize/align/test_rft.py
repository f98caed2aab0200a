"""Rejection-sampling fine-tuning: a round is best-of-n, learnt; unknown rewards never win."""

from __future__ import annotations

import math

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.optimize.align import AlignConfig, SmallPolicy, TablePolicy, TableReward, align, best_of_kl
from plaudit.optimize.align.best_of import exact_best_of, winners
from plaudit.optimize.align.updates import Batch, Rft
from plaudit.specify.text.functions import text_reward

LOGITS = torch.tensor([[0.2, -0.4, 0.3, 0.0]])
VALUES = torch.tensor([[0.0, 1.0, -0.5, 0.3]])


@text_reward
def many_a(completion_text: str) -> float:
    return float(completion_text.count("a"))


@pytest.mark.parametrize("n", [2, 4])
def test_a_round_to_the_end_is_best_of_n(n: int) -> None:
    """The policy that imitates the winners is the distribution of best-of-n, which can be written out."""
    policy = TablePolicy(LOGITS)
    before = policy.log_p()[0].detach()
    result = align(policy, TableReward(VALUES, vocab=4), [0], algo="rft", steps=1, progress=False,
                   config=AlignConfig(prompts=500, samples=n, lr=0.1, epochs=60, minibatch=500))
    after, truth = policy.log_p()[0].detach(), exact_best_of(before, VALUES[0], n)
    off = lambda p: float((p - truth).abs().sum() / 2)  # noqa: E731
    assert off(before.exp()) > 0.1 and off(after.exp()) < 0.05
    assert off(exact_best_of(before, VALUES[0], 2 * n)) > 0.1, "broken: twice as many samples"
    assert float((after.exp() * (after - before)).sum()) < best_of_kl(n) + 0.02
    assert result.curve("best")[0] == pytest.approx(float(truth @ VALUES[0]), abs=0.06)


def test_unknown_never_wins() -> None:
    """All that is known is below 0: an unknown that counted as 0 would win."""
    values = torch.tensor([[-2.0, -1.0, torch.nan]])

    def learnt(table: torch.Tensor) -> list[float]:
        policy = TablePolicy(torch.zeros(1, 3))
        align(policy, TableReward(table, vocab=3), [0], algo="rft", steps=8, progress=False,
              config=AlignConfig(prompts=8, samples=4, lr=0.3, epochs=2, minibatch=8))
        return policy.log_p()[0].exp().tolist()

    assert learnt(values)[1] > 0.8 and learnt(values)[2] < 0.1
    assert learnt(values.nan_to_num())[2] > 0.8, "the broken variant"
    policy = TablePolicy(torch.zeros(1, 3))
    result = align(policy, TableReward(torch.full((1, 3), torch.nan), vocab=3), [0], algo="rft", steps=1,
                   progress=False, config=AlignConfig(prompts=3, samples=4))
    assert result.curve("without_winner") == [3.0] and result.curve("skipped") == [1.0]
    rows, prompt = winners(torch.tensor([0.0, 9.0, 1.0, 5.0]), torch.tensor([True, False, True, False]), 2)
    assert rows.tolist() == [0, 2] and prompt.tolist() == [0, 1]


def test_a_loss_is_summed_or_a_mean_over_tokens() -> None:
    """Of completions of different lengths, by hand."""
    policy = SmallPolicy("ab", hidden=8, max_tokens=6, seed=1)
    tokens = policy.sample(["a", "b", "ab"], n=2, seed=4)
    paid = torch.arange(6.0)
    with torch.no_grad():
        nll = -policy.log_probs(tokens).sum(-1)[1::2]
    length = tokens.lengths[1::2].float()
    assert len(set(length.tolist())) > 1
    expected = {"rows": nll.mean(), "tokens": nll.sum() / length.sum(), "each": (nll / length).mean()}
    zero = torch.zeros(tokens.mask.shape)
    last = torch.nn.functional.one_hot(tokens.last, tokens.T).float()
    batch = Batch(tokens=tokens, reward_BT=last * paid[:, None], known=torch.ones(6, dtype=torch.bool), old_BT=zero,
                  reference_BT=zero, beta=0.0, lr=0.0)
    found = {}
    for over in expected:
        config = AlignConfig(prompts=3, samples=2, epochs=1, minibatch=3, over=over)  # type: ignore[arg-type]
        found[over] = Rft(policy, policy.reference(), config)(batch, Seeds(0))
    assert {k: said["loss"] for k, said in found.items()} == pytest.approx({k: float(v) for k, v in expected.items()})
    assert len({round(said["loss"], 4) for said in found.values()}) == 3
    assert found["rows"]["best"] == 3.0


def test_rounds_are_curves_and_go_on_where_one_ends() -> None:
    """Each round learns from what the last one writes: twice the rounds go further than best-of-n can."""
    policy = SmallPolicy("ab", hidden=16, max_tokens=6)
    result = align(policy, many_a, ["a", "b"], algo="rft", steps=6, progress=False, gold=many_a.named("gold"),
                   config=AlignConfig(prompts=16, samples=4, lr=0.05, over="each", epochs=2))
    reward, best = result.curve("reward"), result.curve("best")
    assert reward[-1] > reward[0] + 1 and all(b >= r for b, r in zip(best, reward, strict=True))
    assert result.curve("gold/gold") == reward and result.curve("kl")[-1] > best_of_kl(4)
    assert not math.isnan(result.curve("length")[-1])


def test_samples_say_how_many() -> None:
    with pytest.raises(BadInput, match="samples: expected an integer >= 2"):
        AlignConfig(samples=1)
    with pytest.raises(BadInput, match="only dpo and kto"):
        from plaudit.optimize.align import pairs_of_texts

        policy = TablePolicy(LOGITS)
        align(policy, many_a, [0], algo="rft", pairs=pairs_of_texts(policy, [0], [[0]], [[1]]), progress=False)
