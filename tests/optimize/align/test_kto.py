"""Kahneman-Tversky optimisation: by hand, beside TRL's trainer, and as a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.optimize.align import (
    AlignConfig,
    CausalPolicy,
    Judged,
    Pairs,
    TablePolicy,
    TableReward,
    align,
    kto_loss,
    mismatched,
    pairs_of_texts,
    reference_point,
)
from plaudit.optimize.align.updates import Batch, Kto

BETA, GOOD, BAD = 0.5, 1.5, 0.7
P = torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.9, 0.1]])
"""What the policy does to three prompts; the reference is undecided."""


def rows() -> tuple[TablePolicy, TablePolicy, Judged]:
    policy, reference = TablePolicy(P.log()), TablePolicy(torch.zeros(3, 2))
    tokens = policy.tokens_of([0, 1, 2], [[0], [1], [0]])
    return policy, reference, Judged(tokens=tokens, desirable=torch.tensor([True, False, False]))


def by_hand(z0: float, *, good: float = GOOD, bad: float = BAD) -> list[float]:
    """Eq. 8 in plain Python."""
    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    ratio = [math.log(p / 0.5) for p in (0.8, 0.7, 0.9)]
    return [good * (1 - sigma(BETA * (ratio[0] - z0))), bad * (1 - sigma(BETA * (z0 - ratio[1]))),
            bad * (1 - sigma(BETA * (z0 - ratio[2])))]


def one_step(judged: Judged, *, weights: tuple[float, float] = (GOOD, BAD)) -> dict[str, float]:
    policy, reference, _ = rows()
    config = AlignConfig(prompts=3, samples=2, max_norm=1e9, desirable_weight=weights[0], undesirable_weight=weights[1])
    update = Kto(policy, reference, config, judged=judged)
    return update(Batch.unsampled(judged, beta=BETA, lr=0.0), Seeds(0))


def test_the_loss_is_the_one_computed_by_hand() -> None:
    """Prompts 0, 1, 2 said 0, 1, 0; crossed they are asked for 1, 0, 0 (the third begins again at the first)."""
    policy, reference, judged = rows()
    crossed = mismatched(judged.tokens)
    assert crossed.action.flatten().tolist() == [1, 0, 0] and crossed.columns["prompt"] == [0, 1, 2]
    raw = (math.log(0.2 / 0.5) + math.log(0.3 / 0.5) + math.log(0.9 / 0.5)) / 3
    assert raw < 0 and reference_point(policy, reference, judged.tokens) == 0.0, "clamped"
    ratio = (policy.log_probs(judged.tokens) - reference.log_probs(judged.tokens)).sum(-1)
    found = kto_loss(ratio, judged.desirable, z0=0.0, beta=BETA, desirable_weight=GOOD, undesirable_weight=BAD)
    assert found.tolist() == pytest.approx(by_hand(0.0), abs=1e-6)
    said = one_step(judged)
    assert said["loss"] == pytest.approx(sum(by_hand(0.0)) / 3, abs=1e-6) and said["z0"] == 0.0
    for wrong in (by_hand(raw), by_hand(0.0, good=BAD, bad=GOOD)):
        assert abs(said["loss"] - sum(wrong) / 3) > 1e-3, "broken: not clamped; the weights exchanged"


def test_the_reference_point_counts_and_has_no_gradient() -> None:
    """Now the crossed completions are likely: z0 > 0. A z0 with a gradient would pull the likely ones down."""
    policy, reference, _ = rows()
    tokens = policy.tokens_of([0, 1], [[1], [0]])
    judged = Judged(tokens=tokens, desirable=torch.tensor([True, True]))
    z0 = (math.log(0.8 / 0.5) + math.log(0.7 / 0.5)) / 2
    assert z0 > 0.3 and reference_point(policy, reference, tokens) == pytest.approx(z0, abs=1e-6)

    def norm(*, flows: bool) -> float:
        own, _, _ = rows()
        mine, crossed = (own.log_probs(t).sum(-1) - math.log(0.5) for t in (tokens, mismatched(tokens)))
        point = crossed.mean() if flows else crossed.mean().detach()
        gain = BETA * (mine - point)
        worth = torch.where(judged.desirable, GOOD * torch.sigmoid(gain), BAD * torch.sigmoid(-gain))
        (-worth.mean()).backward()
        grad = own.table.grad
        assert grad is not None
        return float(grad.norm())

    said = one_step(judged)
    assert said["z0"] == pytest.approx(z0, abs=1e-6)
    assert said["gradient"] == pytest.approx(norm(flows=False), rel=1e-4)
    assert abs(said["gradient"] - norm(flows=True)) > 1e-2, "broken: z0 with a gradient"


def test_pairs_are_two_verdicts_each_and_ties_none() -> None:
    policy, _, _ = rows()
    pairs = pairs_of_texts(policy, [0, 1, 2], [[0], [1], [0]], [[1], [0], [1]], label=[1.0, 0.2, 0.5])
    judged = Judged.of_pairs(pairs)
    assert judged.tokens.columns["prompt"] == [0, 0, 1, 1]
    assert judged.tokens.action.flatten().tolist() == [0, 1, 1, 0]
    assert judged.desirable.tolist() == [True, False, False, True]
    assert mismatched(judged.tokens).action.flatten().tolist() == [1, 1, 0, 0], "never the other one of the same prompt"


def test_parts_and_the_whole_are_the_same_step() -> None:
    def trained(rows_: int | None) -> Tensor:
        policy, reference, judged = rows()
        config = AlignConfig(prompts=3, samples=2, rows=rows_)
        Kto(policy, reference, config, judged=judged)(Batch.unsampled(judged, beta=BETA, lr=0.1), Seeds(0))
        return policy.table.detach()

    assert torch.allclose(trained(None), trained(2), atol=1e-6)


@pytest.mark.parametrize("kind", ["single verdicts", "pairs", "own samples"])
def test_it_moves_the_policy_to_what_is_desirable(kind: str) -> None:
    """Of four answers the last is desirable and the first is not; turned round, the policy goes the other way."""
    reward = TableReward(torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 2), vocab=4)

    def trained(*, turned: bool) -> Tensor:
        policy = TablePolicy(torch.zeros(2, 4))
        paid = TableReward(torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 2), vocab=4) if turned else reward
        good, bad = ([[0], [0]], [[3], [3]]) if turned else ([[3], [3]], [[0], [0]])
        pairs: Pairs | Judged | None = pairs_of_texts(policy, [0, 1], good, bad)
        if kind == "single verdicts":
            pairs = Judged(tokens=policy.tokens_of([0, 1, 0, 1], [*good, *bad]),
                           desirable=torch.tensor([True, True, False, False]))
        elif kind == "own samples":
            pairs = None
        result = align(policy, paid, [0, 1], algo="kto", pairs=pairs, steps=15, progress=False,
                       config=AlignConfig(prompts=4, samples=4, lr=0.2, beta=0.3, measure_every=7))
        assert result.curve("loss")[-1] < result.curve("loss")[0]
        assert math.isnan(result.curve("reward")[1]) == (kind != "own samples"), "what is given needs no samples"
        assert result.curve("reward")[-1] > result.curve("reward")[0] + 0.5
        return policy.log_p().exp().detach()

    right, wrong = trained(turned=False), trained(turned=True)
    assert bool((right[:, 3] > 0.5).all() & (right[:, 0] < 0.1).all())
    assert bool((wrong[:, 0] > 0.5).all() & (wrong[:, 3] < 0.1).all())


def test_one_side_can_be_made_not_to_count() -> None:
    """Without undesirable ones only the desirable answer gains; the two others keep their ratio."""
    policy = TablePolicy(torch.zeros(2, 3))
    pairs = pairs_of_texts(policy, [0, 1], [[2], [2]], [[0], [0]])
    align(policy, None, [0, 1], algo="kto", pairs=pairs, steps=10, progress=False,
          config=AlignConfig(prompts=2, samples=2, lr=0.1, undesirable_weight=0.0))
    p = policy.log_p().exp().detach()
    assert bool((p[:, 2] > 0.5).all()) and torch.allclose(p[:, 0], p[:, 1], atol=1e-6)


def test_bad_input_is_named() -> None:
    policy, reference, judged = rows()
    with pytest.raises(BadInput, match="desirable: expected one for each of 3 rows"):
        Judged(tokens=judged.tokens, desirable=torch.tensor([True]))
    with pytest.raises(BadInput, match="single verdicts"):
        align(policy, None, [0], algo="dpo", pairs=judged, progress=False)
    with pytest.raises(BadInput, match="only dpo and kto"):
        align(policy, None, [0], algo="rloo", pairs=judged, progress=False)
    with pytest.raises(BadInput, match="at least 2 completions"):
        align(policy, None, [0], algo="kto", pairs=judged.take(torch.tensor([0])), progress=False)
    with pytest.raises(BadInput, match="reward: expected a reward"):
        align(policy, None, [0], algo="kto", progress=False)
    with pytest.raises(BadInput, match="desirable_weight"):
        AlignConfig(desirable_weight=-1.0)


@pytest.mark.slow(reason="imports TRL's trainer: seconds")
def test_trl_has_the_same_loss(tiny_llama: Path, tmp_path: Path) -> None:
    """The same rows, the same crossed completions, the same weights, a policy that has moved from its reference."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    if not hasattr(trl, "KTOTrainer"):
        pytest.skip("this TRL has no KTO")
    policy = CausalPolicy.load(tiny_llama, max_tokens=8)
    reference = policy.reference()
    with torch.no_grad():
        for i, parameter in enumerate(policy.module.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    prompts = ["The cat sat", "Say why", "a b c d", "two"]
    tokens = policy.sample(prompts, seed=3)
    judged = Judged(tokens=tokens, desirable=torch.tensor([True, False, True, False]))
    crossed = mismatched(tokens)
    config = trl.KTOConfig(output_dir=str(tmp_path), beta=BETA, desirable_weight=GOOD, undesirable_weight=BAD,
                           per_device_train_batch_size=4, report_to="none", use_cpu=True, bf16=False,
                           gradient_checkpointing=False, train_sampling_strategy="sequential")
    data = datasets.Dataset.from_list([{"prompt": p, "completion": "x", "label": True} for p in prompts])
    trainer: Any = trl.KTOTrainer(model=policy.module, ref_model=reference.module, args=config, train_dataset=data,
                                  processing_class=policy.form.tokenizer)
    ids = [row[mask].tolist() for row, mask in zip(tokens.action, tokens.mask, strict=True)]
    other = [row[mask].tolist() for row, mask in zip(crossed.action, crossed.mask, strict=True)]
    batch = trainer.data_collator([
        {"prompt_ids": policy.encode(p), "completion_ids": i, "KL_completion_ids": o, "label": bool(d)}
        for p, i, o, d in zip(prompts, ids, other, judged.desirable.tolist(), strict=True)])
    with torch.no_grad():
        theirs = float(trainer.compute_loss(trainer.model.eval(), batch))
    z0 = reference_point(policy, reference, tokens)
    with torch.no_grad():
        ratio = (policy.log_probs(tokens) - reference.log_probs(tokens)).sum(-1)
        ours = kto_loss(ratio, judged.desirable, z0=z0, beta=BETA, desirable_weight=GOOD, undesirable_weight=BAD)
        swapped = kto_loss(ratio, judged.desirable, z0=z0, beta=BETA, desirable_weight=BAD, undesirable_weight=GOOD)
    assert z0 == pytest.approx(max(0.0, trainer._metrics["eval"]["kl"][-1]), abs=1e-4)
    assert float(ours.mean()) == pytest.approx(theirs, abs=1e-5)
    assert abs(float(swapped.mean()) - theirs) > 1e-3, "broken: the weights exchanged"
