"""What training minimises: losses by name, on batches, alone or added up.

`objective("scaled + 0.1 * contrastive")` is a sum; `register` adds one of your own. An objective gives for each record
a total and a count, so that a mean over any part of the data is a sum of totals by a sum of counts, and so that a loss
that is not a number can be traced to its records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.learn.text import losses
from plaudit.learn.text.evidence import Evidence

DROPOUT = 0.1
STAGES = ">"
ALIASES = {"two-stage": "regression > scaled", "gaussian": "bradley-terry > gaussian-nll"}


@dataclass(frozen=True)
class Outputs:
    """What the model said of a batch.

    Attributes:
        reward_NOH: The reward of each option by each member; anything where there is no option.
        raw_NOC: The outputs of the head.
        hidden_NOD: The states that the head read.
        again_NOD: Those of a second pass with other dropout, where the backbone has any and contrast is asked for.
        std_NOH: The deviations of Gaussian heads.
        prototype_ZD: What contrast by assignments compares with.
        nll_NO: Nats a token of the chosen options under the language head; NaN for the others.
    """

    reward_NOH: Float[Tensor, "N O H"]
    raw_NOC: Float[Tensor, "N O C"]
    hidden_NOD: Float[Tensor, "N O D"]
    std_NOH: Float[Tensor, "N O H"] | None = None
    again_NOD: Float[Tensor, "N O D"] | None = None
    prototype_ZD: Float[Tensor, "Z D"] | None = None
    nll_NO: Float[Tensor, "N O"] | None = None


Parts = tuple[Float[Tensor, "N"], Float[Tensor, "N"]]
"""A total and a count for each record."""


@dataclass(frozen=True)
class Objective:
    """One loss with a name."""

    name: str
    parts: Callable[[Outputs, Evidence], Parts]
    """Totals and counts."""
    needs: tuple[str, ...] = ("pairs",)
    """pairs, ratings, strength, mu (cross-fitted strength), target (rewards to copy), prototypes, passes (two),
    language (the language head)."""
    about: str = ""
    """A line of help."""


@dataclass(frozen=True)
class Sum:
    """Objectives added up with weights.

    Example:
        >>> [(w, o.name) for w, o in objective("bradley-terry + 0.01 * center").terms]
        [(1.0, 'bradley-terry'), (0.01, 'center')]
    """

    terms: tuple[tuple[float, Objective], ...]

    @property
    def name(self) -> str:
        """How it is written."""
        return " + ".join(o.name if w == 1 else f"{w:g} * {o.name}" for w, o in self.terms)

    @property
    def needs(self) -> frozenset[str]:
        """What all terms need."""
        return frozenset(n for _, o in self.terms for n in o.needs)

    def __call__(self, outputs: Outputs, evidence: Evidence) -> tuple[Float[Tensor, ""], Float[Tensor, "N"]]:
        """The loss of the batch, and each record's part in it (for what is not a number)."""
        weight_N = evidence.weight_N
        whole = outputs.reward_NOH.new_zeros(())
        each_N = torch.zeros_like(weight_N)
        for factor, term in self.terms:
            total_N, count_N = term.parts(outputs, evidence)
            counts = weight_N * count_N
            used = torch.where(counts > 0, weight_N * total_N, torch.zeros_like(total_N))
            whole = whole + factor * used.sum() / counts.sum().clamp(min=1e-8)
            each_N = each_N + factor * used.detach()
        return whole, each_N


OBJECTIVES: dict[str, Objective] = {}


def register(name: str, parts: Callable[[Outputs, Evidence], Parts], *, needs: Sequence[str] = ("pairs",),
             about: str = "") -> Objective:
    """Gives a loss a name, which `fit_text` and the command line then know.

    Raises:
        BadInput: when the name is taken, or is none.
    """
    if name in OBJECTIVES or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise BadInput("name", expected="a new name of letters, digits and hyphens", received=name)
    OBJECTIVES[name] = Objective(name, parts, tuple(needs), about)
    return OBJECTIVES[name]


def objective(text: str | Objective | Sum) -> Sum:
    """Reads a loss: a name, or several with weights.

    Raises:
        BadInput: for a name that is not known.
    """
    if isinstance(text, Sum):
        return text
    if isinstance(text, Objective):
        return Sum(((1.0, text),))
    terms: list[tuple[float, Objective]] = []
    for part in text.split("+"):
        found = re.fullmatch(r"\s*(?:([0-9.eE-]+)\s*\*\s*)?([a-z][a-z0-9-]*)\s*", part)
        if found is None or found[2] not in OBJECTIVES:
            import difflib

            near = difflib.get_close_matches(part.strip(), OBJECTIVES, 1)
            raise BadInput("loss", expected=f"one of {', '.join(sorted(OBJECTIVES))}, or a sum such as "
                           "'scaled + 0.1 * contrastive'", received=text,
                           fix=f"did you mean {near[0]}?" if near else "")
        try:
            weight = float(found[1] or 1)
        except ValueError:
            raise BadInput("loss", expected="numbers before *", received=text) from None
        terms.append((weight, OBJECTIVES[found[2]]))
    return Sum(tuple(terms))


def stages(text: str, *, lm_coefficient: float = 0.0) -> list[Sum]:
    """The objectives of a training in stages: `regression > scaled` is regression first, then scaled.

    Args:
        text: The stages, or a name for some.
        lm_coefficient: How much the language head's loss counts in each; one that copies rewards reads no tokens, and
            stays as it is.

    Example:
        >>> [s.name for s in stages("two-stage")], stages("scaled", lm_coefficient=0.1)[0].name
        (['regression', 'scaled'], 'scaled + 0.1 * lm')
    """
    found = [objective(part) for part in ALIASES.get(text, text).split(STAGES)]
    beside = ((lm_coefficient, OBJECTIVES["lm"]),) if lm_coefficient else ()
    return [s if "target" in s.needs else Sum((*s.terms, *beside)) for s in found]


# --- losses of pairs ----------------------------------------------------------------------------------


def over_pairs(loss: Callable[..., Tensor], *names: str, **options: Any) -> Callable[[Outputs, Evidence], Parts]:
    """A loss of (gap, label, ...) as totals: the mean over a record's pairs and over its members' samples.

    Args:
        loss: The loss of a gap and a label.
        names: What else it reads: strength, margin, tie, mu.
        options: Constants.
    """

    def parts(outputs: Outputs, said: Evidence) -> Parts:
        tables = {"strength": said.strength_NOO, "margin": said.margin_NOO, "tie": said.tie_NOO,
                  "mu": said.mu_N[:, None, None].expand_as(said.label_NOO)}
        known = said.known_NOO
        n, i, j = torch.nonzero(known, as_tuple=True)
        gap_QH = outputs.reward_NOH[n, i] - outputs.reward_NOH[n, j]
        label = said.label_NOO[n, i, j, None].expand_as(gap_QH)
        rest = [tables[name][n, i, j, None].expand_as(gap_QH) for name in names]
        value_QH = loss(gap_QH, label, *rest, **options)
        if said.boot_NH is not None:
            value_QH = value_QH * said.boot_NH[n]
        total = value_QH.new_zeros(len(said)).index_add(0, n, value_QH.mean(-1))
        many = known.sum((1, 2))
        return total / many.clamp(min=1), (many > 0).to(total.dtype)

    return parts


def _strong(loss: Callable[..., Tensor]) -> Callable[[Outputs, Evidence], Parts]:
    """A margin of the strength and of what the record asks for besides."""
    return over_pairs(lambda gap, label, s, m: loss(gap, label, s + m), "strength", "margin")


def _flip(gap: Tensor, label: Tensor, mu: Tensor) -> Tensor:
    return losses.bradley_terry(gap, losses.flipped(label, mu < 0))


def _denoised(gap: Tensor, label: Tensor, mu: Tensor, *, epsilon: float = 0.1, most: float = 5.0) -> Tensor:
    label = losses.flipped(label, mu < 0)
    label = (1 - epsilon) * label + epsilon * (1 - label)
    return losses.adaptive_margin(gap, label, mu.abs(), most=most)


# --- other losses -------------------------------------------------------------------------------------


def _regression(outputs: Outputs, said: Evidence) -> Parts:
    """Ratings by attribute; where the head is a scalar, its reward is the first attribute."""
    K = said.rating_NOK.shape[-1]
    value = outputs.raw_NOC[..., :K] if outputs.raw_NOC.shape[-1] == K else outputs.reward_NOH.mean(-1, keepdim=True)
    rating = said.rating_NOK if value.shape[-1] == K else said.rating_NOK[..., :1]
    return losses.masked_square(value, rating).sum((1, 2)), (~rating.isnan()).sum((1, 2)).to(value.dtype)


def gaussian(kind: str) -> Callable[[Outputs, Evidence], Parts]:
    """Copying a reward by Gaussian members, each on its own bootstrap sample."""
    loss = {"nll": losses.gaussian_nll, "square": losses.gaussian_square}[kind]

    def parts(outputs: Outputs, said: Evidence) -> Parts:
        if outputs.std_NOH is None or said.target_NO is None:
            raise BadInput("loss", expected="a Gaussian head and rewards to copy", received=f"gaussian-{kind}",
                           fix="use plaudit.learn.text.procedures.gaussian_heads")
        known = ~said.target_NO.isnan()
        target = said.target_NO.nan_to_num()[..., None].expand_as(outputs.reward_NOH)
        value = loss(outputs.reward_NOH, outputs.std_NOH, target) * known[..., None]
        if said.boot_NH is not None:
            value = value * said.boot_NH[:, None]
        return value.mean(-1).sum(-1), known.sum(-1).to(value.dtype)

    return parts


def _center(outputs: Outputs, said: Evidence) -> Parts:
    reward_NO = outputs.reward_NOH.mean(-1) * said.present_NO
    return losses.center(reward_NO), torch.ones_like(said.weight_N)


def _language(outputs: Outputs, said: Evidence) -> Parts:
    """The mean over tokens of a chosen completion, and over the chosen ones of a record."""
    if outputs.nll_NO is None:
        raise BadInput("loss", expected="a backbone with its language head", received="lm",
                       fix="fit_text(lm_coefficient=...) keeps it")
    known = ~outputs.nll_NO.isnan()
    total = torch.where(known, outputs.nll_NO, 0.0).sum(1) / known.sum(1).clamp(min=1)
    return total, known.any(1).to(total.dtype)


def contrastive(kind: str, *, between: str) -> Callable[[Outputs, Evidence], Parts]:
    """Contrast of representations: of single texts, or of the differences between better and worse ones.

    The two passes are two passes through the model where something in it drops out (`Lora(dropout=0.1)`, or
    `dropout=0.1` for models with such layers). Most language models have none: then the two differ by dropout on the
    states, for a second pass would give the same ones at twice the cost (a named deviation from the paper).
    """

    def parts(outputs: Outputs, said: Evidence) -> Parts:
        if between == "pairs":
            n, i, j = torch.nonzero(said.known_NOO, as_tuple=True)
            sign = torch.where(said.label_NOO[n, i, j] >= 0.5, 1.0, -1.0)[:, None]
            read = lambda states: (states[n, i] - states[n, j]) * sign  # noqa: E731
        else:
            n, i = torch.nonzero(said.present_NO, as_tuple=True)
            read = lambda states: states[n, i]  # noqa: E731
        one = read(outputs.hidden_NOD).float()
        if outputs.again_NOD is not None:
            two = read(outputs.again_NOD).float()
        else:
            one, two = (torch.nn.functional.dropout(one, DROPOUT) for _ in range(2))
        if kind == "simcse":
            value = losses.simcse(one, two)
        else:
            assert outputs.prototype_ZD is not None
            value = losses.swav(one, two, outputs.prototype_ZD)
        zeros = value.new_zeros(len(said))
        return zeros.index_add(0, n, value), zeros.index_add(0, n, torch.ones_like(value))

    return parts


register("bradley-terry", over_pairs(losses.bradley_terry), about="-log sigma(gap)")
register("margin", _strong(losses.margin), needs=("pairs", "strength"), about="-log sigma(gap - strength)")
register("scaled", over_pairs(losses.scaled, "strength"), needs=("pairs", "strength"),
         about="-strength * log sigma(gap)")
register("smooth", over_pairs(losses.smooth, epsilon=0.1), about="labels smoothed by 0.1")
register("ties", over_pairs(losses.ties, "tie"), about="ties have a probability of their own (Rao and Kupper)")
register("flip", over_pairs(_flip, "mu"), needs=("pairs", "mu"),
         about="sides changed where models that did not see a pair prefer the other one")
register("adaptive-margin", over_pairs(losses.adaptive_margin, "mu"), needs=("pairs", "mu"),
         about="a margin of the strength that models see which did not see the pair")
register("denoised", over_pairs(_denoised, "mu"), needs=("pairs", "mu"),
         about="flipped, smoothed by 0.1, with an adaptive margin")
register("regression", _regression, needs=("ratings",), about="squared error of ratings, masked ones left out")
register("gaussian-nll", gaussian("nll"), needs=("target",), about="Gaussian members copy a reward")
register("gaussian-square", gaussian("square"), needs=("target",), about="the same by the paper's squared error")
register("center", _center, about="(sum of a record's rewards)^2, to be added with a small weight")
register("lm", _language, needs=("pairs", "language"),
         about="nats a token of chosen completions under the language head, to be added")
register("contrastive", contrastive("simcse", between="texts"), needs=("pairs", "passes"),
         about="SimCSE on texts, to be added")
register("contrastive-diff", contrastive("simcse", between="pairs"), needs=("pairs", "passes"),
         about="SimCSE on differences, to be added")
register("contrastive-swav", contrastive("swav", between="texts"), needs=("pairs", "passes", "prototypes"),
         about="SwAV on texts, to be added")
register("contrastive-swav-diff", contrastive("swav", between="pairs"), needs=("pairs", "passes", "prototypes"),
         about="SwAV on differences, to be added")


def with_options(name: str, **options: float) -> Objective:
    """A loss of pairs with other constants, such as `with_options("smooth", epsilon=0.2)`.

    Raises:
        BadInput: when the loss has no such constants.
    """
    made: dict[str, Callable[..., Any]] = {
        "smooth": lambda epsilon=0.1: over_pairs(losses.smooth, epsilon=epsilon),
        "ties": lambda width=0.5: over_pairs(losses.ties, "tie", width=width),
        "adaptive-margin": lambda most=5.0: over_pairs(losses.adaptive_margin, "mu", most=most),
        "denoised": lambda epsilon=0.1, most=5.0: over_pairs(_denoised, "mu", epsilon=epsilon, most=most),
    }
    try:
        return replace(OBJECTIVES[name], parts=made[name](**options))
    except (KeyError, TypeError) as error:
        raise BadInput("options", expected=f"constants of one of {', '.join(made)}", received=f"{name}: {options}") \
            from error
