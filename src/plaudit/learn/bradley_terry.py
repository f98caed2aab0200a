"""The Bradley-Terry trainer: one optimiser step moves all networks of all ensembles, each on pairs of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.misspelt import Options
from plaudit.core.stacked_adam import MemberNoise, PerMember, PopulationAdam, per_member
from plaudit.feedback.oracles import Over, check_over
from plaudit.learn.comparing import PairData
from plaudit.learn.gradients import FragmentScorer
from plaudit.learn.losses import Ties, pair_loss, pair_slope
from plaudit.learn.model import LearnedReward

Standard = Literal["mean", "top", "scale", "none"]


@dataclass(frozen=True, kw_only=True)
class BradleyTerryConfig(Options):
    """Options of the loss and the optimiser.

    Raises:
        BadInput: when a number is out of its range.

    Example:
        >>> BradleyTerryConfig(over="mean", noise=0.1).batch
        32
    """

    lr: PerMember = 1e-3
    """Step size of Adam."""
    batch: int = 32
    """Pairs of each network in a step."""
    over: Over | None = None
    """Whether a fragment's score is the `sum` or the `mean` over its steps; has to be said where lengths differ."""
    discount: float = 1.0
    """Step t of a fragment counts discount ** t."""
    ties: Ties = "soft"
    """`soft`: a tie is the label 0.5; `rao-kupper`: ties have a probability of their own; `drop`: they are left out."""
    tie_width: float = 0.5
    """How wide the ties of `rao-kupper` are, in logits."""
    noise: float = 0.0
    """The chance that an annotator answers at random."""
    smoothing: float = 0.0
    """How far labels are drawn towards one half."""
    level_scale: tuple[float, ...] = ()
    """alpha of each level of a hierarchy: its gaps count in units of alpha, so a larger alpha gives larger gaps."""
    max_norm: float | None = None
    """The largest norm of a network's gradient."""
    decay: PerMember = 0.0
    """lambda of each network: lambda / 2 times the sum of its squared parameters is added to its loss."""
    standardise: Standard = "mean"
    """What the outputs are made comparable by after a fit, over the steps that were compared: `mean` 0 and spread 1;
    `top`: the best step is 0 and the spread 1 (no step pays for staying, which suits tasks that end when solved);
    `scale`: spread 1; `none`."""

    def __post_init__(self) -> None:
        check_over(self.over)
        if self.batch < 1:
            raise BadInput("config.batch", expected="an integer >= 1", received=self.batch)
        if not 0 <= self.discount <= 1:
            raise BadInput("config.discount", expected="a number in [0, 1]", received=self.discount)
        if any(not a > 0 for a in self.level_scale):
            raise BadInput("config.level_scale", expected="numbers above 0", received=self.level_scale)
        if self.standardise not in get_args(Standard):
            raise BadInput("config.standardise", expected=f"one of {', '.join(get_args(Standard))}",
                           received=self.standardise)
        zero = torch.zeros(1)
        pair_loss(zero, zero, noise=self.noise, smoothing=self.smoothing, ties=self.ties, tie_width=self.tie_width)


class BradleyTerry:
    """A model in training: its optimiser and the random numbers of its K networks.

    Args:
        model: What is fitted, in place.
        config: The options.
    """

    def __init__(self, model: LearnedReward, config: BradleyTerryConfig | None = None) -> None:
        self.model, self.config = model, config or BradleyTerryConfig()
        self.device = model.net.flat.device
        self.adam = PopulationAdam([model.net.flat], eps=1e-8)
        self.scorer = FragmentScorer(model.net)
        self._steps: dict[tuple[int, ...], Tensor] = {}
        self.lr = per_member("config.lr", self.config.lr, model.K, device=self.device)
        self.noise = MemberNoise([s.child("pairs") for s in model.seeds], device=self.device)
        self.max_norm = None if self.config.max_norm is None else torch.full_like(self.lr, self.config.max_norm)
        decay = per_member("config.decay", self.config.decay, model.K, device=self.device)
        self.decay = decay.unsqueeze(1) if bool((decay > 0).any()) else None

    # --- one step ----------------------------------------------------------------------------------------

    def gaps(self, data: PairData, index_Kb: Int[Tensor, "K b"]) -> Float[Tensor, "K b"]:
        """The differences of scores in raw units."""
        weight = data.weight_N2L[index_Kb].flatten(1, 2)
        pair = self.scorer(data.steps(index_Kb, self._steps), weight).view(*index_Kb.shape, 2)
        return pair[..., 0] - pair[..., 1]

    def losses(self, gap_Kb: Float[Tensor, "K b"], data: PairData,
               index_Kb: Int[Tensor, "K b"]) -> Float[Tensor, "K b"]:
        """The loss of each pair, not weighted."""
        return pair_loss(gap_Kb, data.label[index_Kb], **self._said(data, index_Kb))

    def _said(self, data: PairData, index: Int[Tensor, "K b"]) -> dict[str, Any]:
        c = self.config
        return {"margin": data.margin[index], "scale": data.scale[index], "noise": c.noise, "smoothing": c.smoothing,
                "tie": data.tie[index], "ties": c.ties, "tie_width": c.tie_width}

    @torch.no_grad()
    def step(self, data: PairData, index_Kb: Int[Tensor, "K b"], *, counts_Kb: Tensor | None = None,
             active_K: Tensor | None = None) -> Float[Tensor, "K"]:
        """One optimiser step of every network on its pairs; returns the mean losses before it (NaN: it has none).

        Args:
            data: The pairs.
            index_Kb: Which of them each network sees.
            counts_Kb: 0 where an entry only pads; None counts all. A network without any stands still.
            active_K: Which networks may move.
        """
        loss, met = self._stepped(data, index_Kb, counts_Kb=counts_Kb, active_K=active_K)
        return torch.where(met, loss, torch.nan)

    def _stepped(self, data: PairData, index_Kb: Int[Tensor, "K b"], *, counts_Kb: Float[Tensor, "K b"] | None = None,
                 active_K: Tensor | None = None) -> tuple[Float[Tensor, "K"], Bool[Tensor, "K"]]:
        """The losses, and which networks have any: a loss of NaN is that of weights that have left the numbers."""
        c, model = self.config, self.model
        model.over, model.discount, model.ties = c.over, c.discount, c.ties
        model.tie_width = c.tie_width if c.ties == "rao-kupper" else 0.0
        weight = data.weight[index_Kb] if counts_Kb is None else data.weight[index_Kb] * counts_Kb
        total = weight.sum(1)
        share = weight / total.clamp(min=1e-12).unsqueeze(1)
        gap = self.gaps(data, index_Kb)
        slope = share * pair_slope(gap, data.label[index_Kb], **self._said(data, index_Kb))
        self.scorer.backward(torch.stack([slope, -slope], -1).flatten(1))
        if self.decay is not None and self.model.net.flat.grad is not None:
            self.model.net.flat.grad.addcmul_(self.model.net.flat, self.decay)
        moves = total > 0 if active_K is None else (total > 0) & active_K
        self.adam.step(lr=self.lr, max_norm=self.max_norm, active=None if bool(moves.all()) else moves)
        return (self.losses(gap, data, index_Kb) * share).sum(1), total > 0

    # --- many steps --------------------------------------------------------------------------------------

    def sample_rows(self, rows: Sequence[Int[Tensor, "_"]]) -> Int[Tensor, "K n"]:
        """A bootstrap sample for each network from the rows of its group, -1 where one has fewer."""
        return self._orders([r[torch.randint(len(r), (len(r),), generator=g).to(r.device)] if len(r) else r
                             for r, g in zip(self._of_networks(rows), self.noise.generators, strict=True)])

    def all_rows(self, rows: Sequence[Int[Tensor, "_"]]) -> Int[Tensor, "K n"]:
        """All rows of its group for each network, -1 where one has fewer."""
        return self._orders(self._of_networks(rows))

    def epoch(self, data: PairData, rows_Kn: Int[Tensor, "K n"], *,
              active_K: Tensor | None = None) -> Float[Tensor, "K"]:
        """Every network sees its rows once, in an order of its own; returns the mean losses (NaN: it has none)."""
        n = rows_Kn.shape[1]
        order = self.noise.permutations(1, n)[:, 0]
        shuffled = rows_Kn.gather(1, order)
        counts = shuffled >= 0
        whole = bool(counts.all())
        losses: list[tuple[Tensor, Tensor]] = []
        for at in range(0, n, self.config.batch):
            part = slice(at, at + self.config.batch)
            losses.append(self._stepped(data, shuffled[:, part].clamp(min=0), active_K=active_K,
                                        counts_Kb=None if whole else counts[:, part].float()))
        return _mean_of_met(losses)

    def updates(self, data: PairData, times: int) -> Float[Tensor, "K"]:
        """Some steps on pairs drawn with replacement, as learning beside an agent does; returns the mean losses.

        The loss of a network whose group has no pairs is NaN.
        """
        of_networks = self._of_networks(data.rows)
        sizes = torch.tensor([len(r) for r in of_networks], device=self.device)
        rows = self._orders(of_networks)
        here = (sizes > 0).float().unsqueeze(1).expand(-1, self.config.batch)
        whole = bool((sizes > 0).all())
        losses: list[tuple[Tensor, Tensor]] = []
        for _ in range(times):
            drawn = (self.noise.uniform(self.config.batch) * sizes.unsqueeze(1)).long().clamp(max=rows.shape[1] - 1)
            losses.append(self._stepped(data, rows.gather(1, drawn).clamp(min=0), counts_Kb=None if whole else here))
        return _mean_of_met(losses)

    def _of_networks(self, rows: Sequence[Tensor]) -> list[Tensor]:
        return [r for r in rows for _ in range(self.model.H)]

    def _orders(self, rows: Sequence[Tensor]) -> Int[Tensor, "K n"]:
        out = torch.full((len(rows), max(1, *(len(r) for r in rows)) if rows else 1), -1, device=self.device)
        for k, r in enumerate(rows):
            out[k, :len(r)] = r
        return out

    # --- after a fit -------------------------------------------------------------------------------------

    @torch.no_grad()
    def all_gaps(self, data: PairData, rows_Kn: Int[Tensor, "K n"]) -> Float[Tensor, "K n"]:
        """The differences of scores in raw units; NaN where a row is -1."""
        parts = [self.gaps(data, rows.clamp(min=0)) for rows in rows_Kn.split(256, 1)]
        return torch.where(rows_Kn >= 0, torch.cat(parts, 1), torch.nan)

    @torch.no_grad()
    def standardise(self, data: PairData) -> None:
        """Sets shift and scale of the outputs by what was compared, so that a refit does not change their size."""
        kind, model = self.config.standardise, self.model
        if kind == "none":
            return
        for g in range(model.G):
            rows = data.rows[g]
            if not len(rows):
                continue
            rows = rows[:: -(-len(rows) * 2 * data.L // 65_536)]
            x = data.steps(rows.unsqueeze(0))
            counts = (data.weight_N2L[rows].reshape(-1) > 0).to(x.device)
            mine = slice(g * model.H, (g + 1) * model.H)
            out = model.net(x.expand(model.K, -1, -1))[mine, :, 0] if model.G == 1 else _part(model, mine, x)
            seen = out[:, counts]
            spread = seen.std(1, correction=0, keepdim=True)
            model.scale[mine] = torch.where(spread > 1e-8, spread, 1.0)
            if kind != "scale":
                model.shift[mine] = seen.mean(1, keepdim=True) if kind == "mean" else seen.amax(1, keepdim=True)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly: the model, the optimiser, the random numbers."""
        return {"model": self.model.state_dict(), "adam": self.adam.state_dict(), "noise": self.noise.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.noise.load_state_dict(state["noise"])


def _mean_of_met(steps: Sequence[tuple[Tensor, Tensor]]) -> Float[Tensor, "K"]:
    """The mean loss of each network over the steps in which it had pairs; NaN where there was none."""
    loss, met = (torch.stack(column) for column in zip(*steps, strict=True))
    return torch.where(met, loss, 0.0).sum(0) / met.sum(0)


def _part(model: LearnedReward, networks: slice, x: Float[Tensor, "1 N D"]) -> Float[Tensor, "H N"]:
    """The raw outputs of some networks."""
    chosen = model.net.select(range(networks.start, networks.stop))
    return chosen(x.expand(model.H, -1, -1))[..., 0]
