"""Small reward heads on states that are known: a whole population taught at once, each member its own way.

A member has its own data set, labels, weights, margins, step size and seed. So an ensemble, its folds, the strength
groups of a noisy set, or the arms of an experiment are one batched product instead of many runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from plaudit.core.errors import BadInput
from plaudit.core.misspelt import Options
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import Activation, PopulationMLP
from plaudit.core.stacked_adam import MemberNoise, PerMember, PopulationAdam, per_member
from plaudit.learn.losses import pair_loss
from plaudit.learn.text import losses

Watch = Callable[[int, PopulationMLP], None]
"""Called with the step and the population."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Lessons:
    """What P members are taught; all tensors are on one device.

    Attributes:
        x_SN2D: The states of both options of N pairs, in S data sets.
        label_PN: How sure it is that the first option is better; 0.9 is a smoothed 1.
        weight_PN: How often a pair is drawn; 0 leaves it out.
        margin_PN: By how much the better one has to win.
        set_P: Which data set each member sees; the first by default.

    Raises:
        BadInput: when shapes do not fit, or a member has nothing to learn from.
    """

    x_SN2D: Float[Tensor, "S N 2 D"]
    label_PN: Float[Tensor, "P _"]
    weight_PN: Float[Tensor, "P N"] | None = None
    margin_PN: Float[Tensor, "P N"] | None = None
    set_P: Int[Tensor, "P"] | None = None

    def __post_init__(self) -> None:
        P, N = self.label_PN.shape
        if self.x_SN2D.shape[1] != N:
            raise BadInput("label_PN", expected=f"labels of {self.x_SN2D.shape[1]} pairs", received=N)
        where = self.x_SN2D.device
        defaults = {"weight_PN": torch.ones(P, N, device=where), "margin_PN": torch.zeros(P, N, device=where),
                    "set_P": torch.zeros(P, dtype=torch.long, device=where)}
        for name, value in defaults.items():
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, value)
            elif given.shape != value.shape:
                raise BadInput(name, expected=f"shape {list(value.shape)}", received=list(given.shape))
        empty = torch.nonzero(self.weights.sum(1) <= 0)
        if len(empty):
            raise BadInput("weight_PN", expected="a pair for each member", received=f"none for member {int(empty[0])}")

    @property
    def weights(self) -> Float[Tensor, "P N"]:
        """How often pairs are drawn."""
        assert self.weight_PN is not None
        return self.weight_PN

    @property
    def sets(self) -> Int[Tensor, "P"]:
        """Which data set each member sees."""
        assert self.set_P is not None
        return self.set_P


@dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """How heads are fitted."""

    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers; () is a linear head."""
    activation: Activation = "tanh"
    """What lies between the layers."""
    steps: int = 400
    """Updates of each member."""
    batch: int = 32
    """Pairs in an update, drawn by their weights."""
    lr: PerMember = 3e-3
    """Adam's step size, which falls to 0 by a cosine."""
    decay: PerMember = 0.0
    """Weight of the squared parameters in the loss."""
    contrast: Literal["none", "simcse", "swav"] = "none"
    """Contrast of the last hidden layer between two dropout passes, to be added."""
    contrast_of: Literal["texts", "differences"] = "texts"
    """Of single options, or of the better less the worse one (the -diff variants)."""
    contrast_weight: PerMember = 0.0
    """beta."""
    dropout: float = 0.1
    """Between the two passes."""
    prototypes: int = 16
    """What SwAV assigns states to."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise BadInput("steps, batch", expected="integers >= 1", received=(self.steps, self.batch))
        if self.contrast != "none" and not self.hidden:
            raise BadInput("contrast", expected="a hidden layer to contrast", received="a linear head",
                           fix="pass hidden=(64,)")


@dataclass(frozen=True, eq=False, kw_only=True)
class MetaStep:
    """MetaRM's move to where samples of the present policy are told further apart: theta' = theta + eta grad J(S).

    The loss is taken at theta'. With `order=1` its gradient there is used as it is (the paper's update); `order=2` goes
    on through the move, with the Hessian of J. J grows with any spread, right or wrong, so eta has to be small.

    Attributes:
        x_SGKD: The states of K samples of each of G prompts, in S sets.
        step_P: eta of each member; 0 is plain training, a negative one descends.
        batch: Prompts drawn for a step.
        order: 1 or 2.
        random_P: Members that move as far in a random direction: a control.
        set_P: Which set each member sees; that of its data by default.

    Raises:
        BadInput: for one sample of a prompt, where J is undefined.

    Source:
        Secrets of RLHF II (arXiv 2401.06080), algorithm 1 and eq. 10.
    """

    x_SGKD: Float[Tensor, "S G K D"]
    step_P: Float[Tensor, "P"]
    batch: int = 8
    order: Literal[1, 2] = 1
    random_P: Bool[Tensor, "P"] | None = None
    set_P: Int[Tensor, "P"] | None = None

    def __post_init__(self) -> None:
        if self.x_SGKD.shape[2] < 2:
            raise BadInput("x_SGKD", expected="at least 2 samples of each prompt", received=self.x_SGKD.shape[2])
        if self.order not in (1, 2):
            raise BadInput("order", expected="1 or 2", received=self.order)

    def moved(self, net: PopulationMLP, sets: Int[Tensor, "P"], group_Pb: Int[Tensor, "P b"],
              noise: MemberNoise) -> Float[Tensor, "P W"]:
        """theta' as a function of theta, given the prompts of the step."""
        flat = net.flat
        sets = sets if self.set_P is None else self.set_P
        x = self.x_SGKD[sets.unsqueeze(1), group_Pb]
        P, b, K, D = x.shape
        with torch.enable_grad():
            reward = net(x.reshape(P, b * K, D), flat)[..., 0].view(P, b, K)
            value = losses.difference(reward.flatten(0, 1)).view(P, b).mean(1)
            (gradient,) = torch.autograd.grad(value.sum(), flat, create_graph=self.order == 2)
        if self.random_P is not None and bool(self.random_P.any()):
            other = F.normalize(noise.normal(flat.shape[1]), dim=1) * gradient.norm(dim=1, keepdim=True)
            gradient = torch.where(self.random_P.unsqueeze(1), other, gradient)
        return flat + self.step_P.unsqueeze(1) * gradient


def fit_heads(data: Lessons, options: HeadOptions | None = None, *, seeds: Sequence[Seeds],
              meta: MetaStep | None = None, start: Float[Tensor, "P W"] | None = None, watch: Watch | None = None,
              every: int = 0) -> PopulationMLP:
    """Fits all members side by side (Bradley-Terry, with each pair's label, weight and margin), where the data live.

    Args:
        data: What each member is taught.
        options: How.
        seeds: One for each member, of its first weights and its order; equal ones make members comparable.
        meta: MetaRM.
        start: Weights to go on from.
        watch: Called every so many steps and at the end, such as for early stopping.
        every: How often; 0 only at the end.

    Raises:
        BadInput: when there are not as many seeds as members.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]).unsqueeze(0)  # what is in front wins
        >>> net = fit_heads(Lessons(x_SN2D=x, label_PN=torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
        ...                 HeadOptions(hidden=(), steps=20, lr=0.1), seeds=[Seeds(0), Seeds(1)])
        >>> gaps(net, x)[:, 0] > 0  # the second member was told the opposite
        tensor([ True, False])
    """
    how = options or HeadOptions()
    P, D, device = len(data.label_PN), data.x_SN2D.shape[-1], data.x_SN2D.device
    if len(seeds) != P:
        raise BadInput("seeds", expected=f"one for each of {P} members", received=len(seeds))
    net = PopulationMLP((D, *how.hidden, 1), activation=how.activation, device=device,
                        generators=[s.child("init").torch() for s in seeds])
    if start is not None:
        net.flat.data.copy_(start)
    contrast = _Contrast(how, net, seeds) if how.contrast != "none" else None
    adam = PopulationAdam([net.flat, *(contrast.params if contrast else ())], eps=1e-8)
    lr, decay = per_member("lr", how.lr, P, device=device), per_member("decay", how.decay, P, device=device)
    draws, moves = (MemberNoise([s.child(name) for s in seeds], device=device) for name in ("order", "meta"))
    share = data.weights.double().cumsum(1)
    share = share / share[:, -1:]
    uniform = draws.uniform(how.steps, how.batch).double()
    assert data.margin_PN is not None
    for step in range(how.steps):
        index = torch.searchsorted(share, uniform[:, step].contiguous(), right=True).clamp(max=share.shape[1] - 1)
        x = data.x_SN2D[data.sets.unsqueeze(1), index]
        flat = net.flat
        if meta is not None:
            flat = meta.moved(net, data.sets, moves.below(meta.x_SGKD.shape[1], meta.batch), moves)
        reward = net(x.flatten(1, 2), flat)[..., 0].view(P, -1, 2)
        label = data.label_PN.gather(1, index)
        each = pair_loss(reward[..., 0] - reward[..., 1], label, margin=data.margin_PN.gather(1, index)).mean(1)
        loss = each + decay * flat.square().sum(1)
        if contrast is not None:
            loss = loss + contrast(net, flat, x, label)
        loss.sum().backward()
        fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / how.steps)))
        adam.step(lr=lr * fall)
        if watch is not None and every and (step + 1) % every == 0 and step + 1 < how.steps:
            watch(step + 1, net)
    if watch is not None:
        watch(how.steps, net)
    return net


@torch.no_grad()
def gaps(net: PopulationMLP, x_SN2D: Float[Tensor, "S N 2 D"], set_P: Int[Tensor, "P"] | None = None,
         *, flat: Float[Tensor, "P W"] | None = None) -> Float[Tensor, "P N"]:
    """By how much each member prefers the first option of each pair of its data set."""
    sets = torch.zeros(net.P, dtype=torch.long, device=x_SN2D.device) if set_P is None else set_P
    S, N, _, D = x_SN2D.shape
    flat = net.flat.detach() if flat is None else flat
    out: list[Tensor] = []
    for part in x_SN2D.split(max(1, 2_000_000 // (net.P * 2 * D)), 1):
        x = part.reshape(S, -1, D)[sets] if S > 1 else part.reshape(1, -1, D).expand(net.P, -1, -1)
        value = net(x, flat)[..., 0].view(net.P, -1, 2)
        out.append(value[..., 0] - value[..., 1])
    return torch.cat(out, 1)


def represent(net: PopulationMLP, flat: Float[Tensor, "P W"], x: Float[Tensor, "P M D"], *, dropout: float = 0.0,
              generator: torch.Generator | None = None) -> Float[Tensor, "P M F"]:
    """The last hidden layer, with dropout behind each, of the same units for all members (drawn on the CPU)."""
    part = net.named(flat)
    act = {"tanh": torch.tanh, "relu": F.relu, "silu": F.silu}[net.activation]
    for i in range(len(net.sizes) - 2):
        x = act(torch.baddbmm(part[f"bias_{i}"], x, part[f"weight_{i}"]))
        if dropout:
            x = x * (torch.rand(x.shape[1:], generator=generator) >= dropout).to(x.device) / (1 - dropout)
    return x


@dataclass(eq=False)
class _Contrast:
    """beta L_cl of every member."""

    how: HeadOptions
    net: PopulationMLP
    seeds: Sequence[Seeds]
    params: list[Tensor] = field(default_factory=list[Tensor])

    def __post_init__(self) -> None:
        device = self.net.flat.device
        self.weight_P = per_member("contrast_weight", self.how.contrast_weight, self.net.P, device=device)
        if self.how.contrast == "swav":
            shape = (self.how.prototypes, self.how.hidden[-1])
            drawn = [torch.randn(shape, generator=s.child("prototypes").torch()) for s in self.seeds]
            self.params = [torch.stack(drawn).flatten(1).to(device).requires_grad_()]
        self.generator = self.seeds[0].child("dropout").torch()

    def __call__(self, net: PopulationMLP, flat: Tensor, x: Float[Tensor, "P b 2 D"],
                 label: Float[Tensor, "P b"]) -> Float[Tensor, "P"]:
        one, two = (represent(net, flat, x.flatten(1, 2), dropout=self.how.dropout, generator=self.generator)
                    for _ in range(2))
        if self.how.contrast_of == "differences":
            sign = torch.where(label >= 0.5, 1.0, -1.0).unsqueeze(-1)
            one, two = ((h[:, 0::2] - h[:, 1::2]) * sign for h in (one, two))
        if self.how.contrast == "simcse":
            return self.weight_P * losses.simcse(one, two).mean(-1)
        prototype = self.params[0].view(net.P, self.how.prototypes, -1)
        return self.weight_P * losses.swav(one, two, prototype).mean(-1)
