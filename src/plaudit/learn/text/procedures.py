"""Trainings of more than one step: weight extrapolation, MetaRM, Gaussian heads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.learn.text.evidence import evidence
from plaudit.learn.text.losses import difference

if TYPE_CHECKING:
    from plaudit.learn.text.examples import Example
    from plaudit.learn.text.modelling import RewardModel
    from plaudit.learn.text.trainer import Meta

ALPHAS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)

# --- weight extrapolation ------------------------------------------------------------------------------


def extrapolate(first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """theta = theta_1 + alpha (theta_2 - theta_1); alpha > 1 goes on beyond the second.

    Args:
        first: The weights before a stage of training.
        second: Those after it.
        alpha: How far.

    Raises:
        BadInput: when the two are not states of one model.

    Source:
        Zheng et al. (2024), Weak-to-Strong Extrapolation, eq. 1; HelpSteer2-Preference, section 4.2.

    Example:
        >>> extrapolate({"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, 1.5)
        {'w': tensor([4.])}
    """
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise BadInput("weights", expected="two states of one model", received="weights of other names or shapes")
    return {name: (a + alpha * (second[name] - a) if a.is_floating_point() else second[name])
            for name, a in first.items()}


def best_alpha(measure: Callable[[float], float], alphas: Sequence[float] = ALPHAS) -> tuple[float, dict[float, float]]:
    """The alpha with the highest measure on held-out records; 1 (no extrapolation) wins a draw.

    Raises:
        BadInput: when 1 is not among them: then it could only hurt.

    Example:
        >>> best_alpha(lambda a: -(a - 1.2) ** 2)[0]
        1.2
    """
    if 1.0 not in alphas:
        raise BadInput("alphas", expected="numbers with 1.0 among them", received=tuple(alphas))
    found = {alpha: measure(alpha) for alpha in sorted(alphas)}
    best = max(found.values())
    return (1.0 if found[1.0] == best else max(found, key=lambda a: found[a])), found


# --- MetaRM ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ascended(model: RewardModel, meta: Meta, collator: Any, *, step: int, seed: int) -> Generator[None]:
    """Within, the weights are theta' = theta + eta grad J(S); after it theta again, with the gradients found at theta'.

    The optimiser's step that follows is theta - alpha grad L(theta'): the first-order form of the paper's update.
    """
    drawn = Seeds(seed).child("meta", step).numpy().choice(len(meta.groups), min(meta.batch, len(meta.groups)),
                                                          replace=False)
    before = {name: p.grad for name, p in model.named_parameters()}
    gradient = difference_gradient(model, [meta.groups[int(i)] for i in sorted(drawn)], collator)
    for name, p in model.named_parameters():
        p.grad = before[name]
    moved = [(p, gradient[name]) for name, p in model.named_parameters() if name in gradient]
    kept = [p.detach().clone() for p, _ in moved]
    with torch.no_grad():
        for p, g in moved:
            p.add_(g, alpha=meta.step_size)
    try:
        yield
    finally:
        with torch.no_grad():
            for (p, _), value in zip(moved, kept, strict=True):
                p.copy_(value)


def difference_gradient(model: RewardModel, groups: Sequence[Example], collator: Any) -> dict[str, Tensor]:
    """The gradient of the mean of J over groups of samples.

    Raises:
        BadInput: when a group has fewer than two samples.
    """
    model.zero_grad(set_to_none=True)
    collated = collator(list(groups)).to(model.head.layer.weight.device)
    outputs = model(collated)
    value = torch.stack([difference(outputs.reward_NOH[n, :len(e.ids)].mean(-1)[None])[0]
                         for n, e in enumerate(groups)]).mean()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# --- targets -------------------------------------------------------------------------------------------


def as_targets(examples: Sequence[Example], reward: Sequence[Sequence[float]]) -> list[Example]:
    """Examples whose options are to get these rewards: what Gaussian heads copy from the first stage."""
    return [replace(e, target=tuple(map(float, r))) for e, r in zip(examples, reward, strict=True)]


def margin_units(records: Sequence[Preference]) -> float:
    """The mean strength of the pairs: what the scaled loss is divided by to compare it with others at one rate."""
    said = evidence(records)
    return float(said.strength_NOO[said.known_NOO].mean())
