"""`LearnedReward`: stacked networks that read single steps; an ensemble is one object, so is a population of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.core.devices import check_device
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.normalise import RunningMoments
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import Activation, PopulationMLP
from plaudit.feedback.oracles import Over
from plaudit.learn.features import StepFeatures
from plaudit.learn.losses import Ties


class LearnedReward(Reward):
    """G groups of H networks, all in one stack of K = G * H. The value of a step is the mean over the H members.

    One group is the plain case. Several groups are one reward model for each agent of a population: a row of
    episodes is then scored by the group of its `member`.

    Args:
        features: What it reads.
        hidden: The widths of the hidden layers.
        members: H, the size of the ensemble.
        groups: The ids that `episodes.member` may have, one for each group; () is one group for all rows.
        activation: What lies between the layers.
        normalise: Whether inputs are normalised by running moments (of each group).
        seed: Of the initial weights; every network has its own.
        name: The name of the reward.
        learning: Whether it will change while somebody trains on it, so that stored values are stale.

    Raises:
        BadInput: when there are no members, two groups share an id, a width is below 1, or torch has no such device.

    Example:
        >>> store = Episodes.of_transitions(obs=torch.randn(6, 2), action=torch.randn(6), next_obs=torch.randn(6, 2))
        >>> model = LearnedReward(StepFeatures.of(store), members=3, hidden=(8,))
        >>> model.score(store).members.shape
        torch.Size([3, 6, 1])
    """

    def __init__(self, features: StepFeatures, *, hidden: Sequence[int] = (256, 256), members: int = 1,
                 groups: Sequence[int] = (), activation: Activation = "relu", normalise: bool = True,
                 seed: int | Seeds = 0, name: str = "learned", learning: bool = False,
                 device: str | torch.device = "cpu") -> None:
        if members < 1 or len(set(groups)) < len(groups):
            raise BadInput("members, groups", expected="at least 1 member, and different groups",
                           received=(members, list(groups)))
        if not isinstance(hidden, Sequence) or any(width < 1 for width in hidden):
            raise BadInput("hidden", expected="the widths of the hidden layers, such as (256, 256)", received=hidden)
        device = check_device(device)
        self.features, self.hidden, self.H, self.groups = features, tuple(hidden), members, tuple(groups)
        self.G = max(1, len(self.groups))
        self.normalise, self.name = normalise, name
        root = seed if isinstance(seed, Seeds) else Seeds(seed)
        ids = self.groups or (0,)
        self.seeds = [root.child("reward", g, h) for g in ids for h in range(members)]
        """One for each of the K networks."""
        self.net = PopulationMLP((features.size, *self.hidden, 1), activation=activation, device=device,
                                 generators=[s.child("init").torch() for s in self.seeds])
        self.moments = RunningMoments(features.size, population=self.G, device=device)
        self.shift = torch.zeros(self.K, 1, device=device)
        """What is subtracted from each network's output, [K, 1]."""
        self.scale = torch.ones(self.K, 1, device=device)
        """By what it is divided then, [K, 1]."""
        self.temperature = torch.ones(self.K, 1, device=device)
        """By what a difference of scores is divided before it becomes a probability, [K, 1]."""
        self.tie_width = 0.0
        """Of the loss that it is fitted by: how much a score has to be above another, to be told apart (see `wins`)."""
        self.over: Over | None = None
        """Of the loss that it is fitted by: how the steps of a fragment make its score."""
        self.discount = 1.0
        """Of the loss that it is fitted by: step t of a fragment counts discount ** t."""
        self.ties: Ties = "soft"
        """Of the loss that it is fitted by: what a tie is."""
        self.learning = learning
        self.needs = Needs(fields=frozenset(features.fields), state="learns" if learning else "none")

    @property
    def K(self) -> int:
        """The number of networks."""
        return self.G * self.H

    @property
    def device(self) -> torch.device:
        """Where the networks are; episodes may lie elsewhere."""
        return self.net.flat.device

    def frozen(self) -> LearnedReward:
        """The same reward (sharing its networks), which says that it does not change any more."""
        out = self.named(self.name)
        assert isinstance(out, LearnedReward)
        out.learning, out.needs = False, Needs(fields=self.needs.fields)
        return out

    # --- scoring -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, episodes: Episodes) -> Score:
        x = self.features(episodes).to(self.device)
        B, T, _ = x.shape
        if self.G == 1:
            out = self.outputs(x.reshape(1, B * T, -1)).view(self.H, B, T)
        else:
            out = self._by_group(x, self.group_of(episodes).to(self.device))
        out = out.to(episodes.device)
        return Score.of(out.mean(0), mask=episodes.mask, members=out if self.H > 1 else None,
                        why=self.features.outside(episodes), reason="the reward model gave no finite number")

    def outputs(self, x: Float[Tensor, "G N D"]) -> Float[Tensor, "K N"]:
        """What each network says, in the standard units of the last fit; x are features as they are."""
        raw = self.net(self.spread(self.normalised(x)))[..., 0]
        return (raw - self.shift) / self.scale

    def normalised(self, x: Float[Tensor, "G N D"]) -> Float[Tensor, "G N D"]:
        """Features in units of their moments."""
        return self.moments.normalise(x) if self.normalise else x

    def spread(self, x: Float[Tensor, "G N D"]) -> Float[Tensor, "K N D"]:
        """The inputs of the groups as those of the networks."""
        return x if self.H == 1 else x.repeat_interleave(self.H, 0)

    def _by_group(self, x: Float[Tensor, "B T D"], group: Int[Tensor, "B"]) -> Float[Tensor, "H B T"]:
        B, T, D = x.shape
        each = torch.arange(self.G, device=group.device)
        if B % self.G == 0 and torch.equal(group, each.repeat_interleave(B // self.G)):
            out = self.outputs(x.reshape(self.G, -1, D))
            return out.view(self.G, self.H, B // self.G, T).transpose(0, 1).reshape(self.H, B, T)
        counts = group.bincount(minlength=self.G)
        order = group.argsort(stable=True)
        place = torch.arange(B, device=group.device) - (counts.cumsum(0) - counts)[group[order]]
        room = x.new_zeros(self.G, int(counts.max()), T, D)
        room[group[order], place] = x[order]
        out = self.outputs(room.view(self.G, -1, D)).view(self.G, self.H, -1, T)
        back = x.new_empty(self.H, B, T)
        back[:, order] = out[group[order], :, place].transpose(0, 1)
        return back

    def group_of(self, episodes: Episodes) -> Int[Tensor, "B"]:
        """The position of each row's group.

        Raises:
            BadInput: when rows have no member, or one that no group is made for.
        """
        if not self.groups:
            return torch.zeros(episodes.B, dtype=torch.int64, device=episodes.device)
        if episodes.member is None:
            raise BadInput("episodes.member", expected=f"whose row it is, out of {list(self.groups)[:8]}",
                           received=None)
        ids = torch.tensor(self.groups, device=episodes.device)
        same = episodes.member.unsqueeze(1) == ids
        if not bool(same.any(1).all()):
            raise BadInput("episodes.member", expected=f"out of {list(self.groups)[:8]}",
                           received=episodes.member[~same.any(1)][:8].tolist())
        return same.int().argmax(1)

    # --- saving ------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes the same form (for `save_reward`)."""
        return {"features": self.features.spec(), "hidden": list(self.hidden), "members": self.H,
                "groups": list(self.groups), "activation": self.net.activation, "normalise": self.normalise,
                "learning": self.learning}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], device: str | None = None) -> LearnedReward:
        """The reward of a spec, with fresh weights (`load_reward` then loads those that were learnt)."""
        options = {**spec, "features": StepFeatures.from_spec(spec["features"])}
        return cls(**options, device=device or "cpu")

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.flat.detach(), "shift": self.shift, "scale": self.scale,
                "temperature": self.temperature, "tie_width": self.tie_width, "over": self.over,
                "discount": self.discount, "ties": self.ties, "moments": self.moments.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved = state.get("net")
        if saved is None or saved.shape != self.net.flat.shape:
            raise BadInput("state", expected=f"weights of shape {list(self.net.flat.shape)}",
                           received=None if saved is None else list(saved.shape))
        self.net.flat.copy_(saved)
        for name in ("shift", "scale", "temperature"):
            getattr(self, name).copy_(state[name])
        for name in ("tie_width", "over", "discount", "ties"):  # states of older versions say nothing of them
            setattr(self, name, state.get(name, getattr(self, name)))
        self.moments.load_state_dict(state["moments"])
