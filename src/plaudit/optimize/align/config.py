"""The options of an alignment run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from plaudit.core.errors import BadInput
from plaudit.core.misspelt import Options
from plaudit.core.schedules import Controller, Schedule, Weight, value_of, weight_spec
from plaudit.optimize.align.advantages import Credit
from plaudit.optimize.align.dpo import Form, Labels

Algo = Literal["rloo", "ppo", "dpo", "kto", "rft"]
KLLoss = Literal["k2", "k3", "exact"]


@dataclass(frozen=True, kw_only=True)
class AlignConfig(Options):
    """How a policy is aligned.

    Raises:
        BadInput: when a number is out of its range.

    Example:
        >>> AlignConfig(samples=1)
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: config.samples: expected an integer >= 2, received 1
    """

    prompts: int = 16
    """Prompts in a step."""
    samples: int = 4
    """Completions of each; with rft the N of which the best is learnt from (8 is usual, the literature goes to 512)."""
    lr: float | Schedule = 1e-5
    """Step size of Adam."""
    beta: Weight = 0.05
    """The price of a nat of KL to the reference; a schedule, or a controller such as `TargetController("kl", 8.0)`.
    With rft it does nothing: the KL is only told."""
    kl_in: Literal["reward", "loss"] = "reward"
    """`reward` charges each token for its log-ratio, which is exact; `loss` adds the KL of each token alone."""
    kl_loss: KLLoss | str = "k2"
    """The estimate in the loss: `k2` and `exact` pull towards KL(policy || reference), `k3` (as GRPO has it) towards
    KL(reference || policy)."""
    discount: float = 1.0
    """Of later tokens."""
    max_norm: float = 1.0
    """The longest gradient."""
    over: Literal["rows", "tokens", "each"] = "rows"
    """A loss is a sum over tokens and a mean over completions (unbiased), a mean over all tokens, or a mean over the
    tokens of `each` completion and then over completions."""
    whiten: bool | None = None
    """Advantages with mean 0 and deviation 1; None does so for PPO alone."""
    credit: Credit = "to-go"
    """RLOO: what a token is paid for; `return` where its reward may depend on later tokens (`leave_one_out`)."""
    trace: float = 0.95
    """PPO: lambda of the advantage estimates."""
    clip: float = 0.2
    """PPO: how far the ratio of the new to the old probability counts."""
    epochs: int = 4
    """PPO, rft: passes over the completions of a step."""
    minibatch: int | None = None
    """PPO, rft: completions in an update; None is a quarter of them."""
    value_hidden: int = 64
    """PPO: hidden units of the value function, which reads the features of the reference."""
    value_lr: float = 1e-3
    """PPO: its step size."""
    form: Form = "regular"
    """DPO: `dpo_loss`."""
    labels: Labels = "hard"
    """DPO on its own samples: `pairs_of_rewards`."""
    desirable_weight: float = 1.0
    """KTO: lambda_D, how much desirable completions count."""
    undesirable_weight: float = 1.0
    """KTO: lambda_U, how much undesirable ones count."""
    normalise: bool = False
    """DPO, scaled: strengths divided by their mean."""
    rows: int | None = None
    """Completions in one forward pass; their gradients are added. None is all."""
    measure_every: int = 1
    """Steps between two measurements of the `watch` and `gold` rewards; where all evidence is given, also between two
    samplings, so that the steps between them have no reward, KL or length."""

    def __post_init__(self) -> None:
        for name, low in (("prompts", 1), ("samples", 2), ("epochs", 1), ("value_hidden", 1), ("measure_every", 1)):
            _check(name, getattr(self, name), f"an integer >= {low}", whole=True, low=low)
        for name in ("minibatch", "rows"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), "an integer >= 1, or None", whole=True, low=1)
        for name in ("discount", "trace"):
            _check(name, getattr(self, name), "a number in [0, 1]", high=1.0)
        for name in ("max_norm", "clip", "value_lr"):
            _check(name, getattr(self, name), "a number above 0", low=1e-300)
        for name in ("desirable_weight", "undesirable_weight"):
            _check(name, getattr(self, name), "a number >= 0")
        for name in ("lr", "beta"):
            if not isinstance(getattr(self, name), Schedule | Controller):
                _check(name, getattr(self, name), "a number >= 0, or a schedule")
        kinds = {"kl_in": ("reward", "loss"), "over": ("rows", "tokens", "each"), "credit": get_args(Credit),
                 "form": get_args(Form), "labels": get_args(Labels), "kl_loss": get_args(KLLoss)}
        for name, known in kinds.items():
            if getattr(self, name) not in known:
                fix = "the mean gradient of k1 in a loss is 0: it would do nothing" \
                    if (name, getattr(self, name)) == ("kl_loss", "k1") else ""
                raise BadInput(f"config.{name}", expected=f"one of {known}", received=getattr(self, name), fix=fix)

    def beta_at(self, progress: float) -> float:
        """The price of KL at a share of the run."""
        return value_of(self.beta, progress)

    def lr_at(self, progress: float) -> float:
        """The step size at a share of the run."""
        return value_of(self.lr, progress)

    def to_json(self) -> dict[str, Any]:
        """JSON that tells two configurations apart."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**plain, "lr": weight_spec(self.lr), "beta": weight_spec(self.beta)}


def _check(name: str, value: Any, expected: str, *, whole: bool = False, low: float = 0.0,
           high: float = float("inf")) -> None:
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise BadInput(f"config.{name}", expected=expected, received=value)
