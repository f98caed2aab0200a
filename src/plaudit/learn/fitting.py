"""`fit`: preferences give a reward."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.checkpoint import load_state, save_state
from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import Activation
from plaudit.feedback.preferences import Preferences
from plaudit.learn.bradley_terry import BradleyTerry, BradleyTerryConfig
from plaudit.learn.calibration import Calibration, best_temperature
from plaudit.learn.comparing import PairData, check_trainable, evidence, pair_data
from plaudit.learn.cross_fitting import CrossFit
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward

_FORMAT = "plaudit.fit.2"
_FILE = "fit.safetensors"


@dataclass(frozen=True, kw_only=True)
class FitConfig(BradleyTerryConfig):
    """Options of a fit to a fixed set of preferences.

    Example:
        >>> FitConfig(epochs=5, held_out=0.2, patience=2).bootstrap
        True
    """

    epochs: int = 30
    """How often each pair is seen, at most."""
    bootstrap: bool = True
    """Whether each member of an ensemble sees a bootstrap sample of its own (a single one sees all)."""
    held_out: float = 0.1
    """The share of pairs that is not trained on; 0 holds none out (then there is no early stopping, no calibration)."""
    patience: int | None = 5
    """A network stops once so many epochs have not lowered its loss on held-out pairs, and its best weights count;
    None never stops, nor does a network of whose group no pair is held out (its last weights count)."""
    calibrate: bool = True
    """Whether a temperature is fitted on the held-out pairs, for probabilities."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs < 1 or (self.patience is not None and self.patience < 1):
            raise BadInput("config.epochs, config.patience", expected="integers >= 1",
                           received=(self.epochs, self.patience))
        if not 0 <= self.held_out < 1:
            raise BadInput("config.held_out", expected="a share in [0, 1)", received=self.held_out)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fit` gives."""

    reward: LearnedReward
    """The reward; `reward.score(...)` has its members."""
    loss: list[list[float]]
    """The mean training loss of each network, epoch by epoch."""
    held_out_loss: list[list[float]]
    """The same on held-out pairs, of the weights after each epoch; NaN for a network whose group has none."""
    best_epoch: list[int]
    """After how many epochs each network was kept."""
    calibration: Calibration | None
    """How good its probabilities are on held-out pairs, where each tenth is judged by what the others choose
    (see `CrossFit`; the reward itself has those that all of them chose). None where no pair was held out, or none has
    others to choose for it."""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """What the preferences held: `first`, `second`, `equal`, `undecided`."""


Progress = Callable[[int, int], None]
"""Called with the epochs done and the epochs planned."""


def fit(preferences: Preferences, *, model: LearnedReward | None = None,
        fields: str | Sequence[str] = ("obs", "action"), choices: dict[str, int] | None = None,
        hidden: Sequence[int] = (256, 256), members: int = 1, activation: Activation = "relu", seed: int = 0,
        config: FitConfig | None = None, one_sided: bool = False, name: str = "learned",
        out: str | Path | None = None, resume: bool = False, progress: Progress | None = None,
        device: str | torch.device | None = None) -> Fitted:
    """Fits a reward to preferences by the Bradley-Terry model.

    The score of a fragment is the sum (or the mean, `config.over`) of the rewards of its steps; fragments of one
    step make it a fit per step, whole episodes one per episode. The same arguments give the same bits on a CPU,
    also through an interruption and `resume`.

    Args:
        preferences: The evidence. Undecided pairs are left out, and counted in the result.
        model: A model to fit further, in place of one made from the next arguments.
        fields: What the reward reads of a step; a string is one field.
        choices: How many values an integer field has, such as `{"action": 4}`.
        hidden: Widths of the hidden layers.
        members: The size of the ensemble.
        activation: What lies between the layers.
        seed: The root of all randomness.
        config: The options of the loss and the optimiser.
        one_sided: Whether all pairs are stored as (chosen, rejected).
        name: The name of the reward.
        out: A folder for a checkpoint after each epoch.
        resume: Goes on from the checkpoint in `out`, or begins where there is none.
        progress: Told after each epoch.
        device: Where a new model is and is fitted; None is where the episodes are.

    Raises:
        BadInput: when the preferences can teach nothing (see `check_trainable`), or the checkpoint is another fit's.

    Example:
        >>> from plaudit.core.functions import reward
        >>> from plaudit.core.episodes import Episodes
        >>> from plaudit.feedback.fragments import sample_pairs
        >>> from plaudit.feedback.oracles import Oracle
        >>> x = torch.randn(64, 2, generator=Seeds(0).torch())
        >>> store = Episodes.of_transitions(obs=x, action=torch.zeros(64), next_obs=x)
        >>> truth = reward(lambda obs: obs[..., 0] - obs[..., 1], vectorised=True)
        >>> said = Oracle(truth)(sample_pairs(store, 400, length=1))
        >>> fitted = fit(said, fields=["obs"], hidden=(), config=FitConfig(lr=0.03))
        >>> fitted.calibration.accuracy.mean > 0.9
        True
    """
    config = config or FitConfig()
    check_trainable(preferences, over=config.over, one_sided=one_sided, ties=config.ties)
    if model is None:
        features = StepFeatures.of(preferences.episodes, fields=fields, choices=choices)
        model = LearnedReward(features, hidden=hidden, members=members, activation=activation, seed=Seeds(seed),
                              name=name, device=device or preferences.episodes.device)
    run = _Fit(preferences, model, config, seed, None if out is None else Path(out))
    if resume:
        run.restore()
    while run.epoch < config.epochs and bool(run.active.any()):
        run.one_epoch()
        if progress is not None:
            progress(run.epoch, config.epochs)
    return run.result()


class _Fit:
    """The state of one fit."""

    def __init__(self, preferences: Preferences, model: LearnedReward, config: FitConfig, seed: int,
                 out: Path | None) -> None:
        self.config, self.seed, self.out, self.model = config, seed, out, model
        self.counts = preferences.counts()
        self.trainer = BradleyTerry(model, config)
        self.pairs = evidence(preferences, config.ties)
        self.learnt_from = "" if out is None else _digest(model, self.pairs)
        self.data = pair_data(model, self.pairs, over=config.over, discount=config.discount,
                              level_scale=config.level_scale, ties=config.ties)
        self.train_rows, self.held_rows = self._split(self.data)
        bootstrapped = config.bootstrap and model.H > 1
        self.rows_Kn = (self.trainer.sample_rows if bootstrapped else self.trainer.all_rows)(self.train_rows)
        self.held_Kn = self.trainer.all_rows(self.held_rows)
        self.held_weight_Kn = torch.where(self.held_Kn >= 0, self.data.weight[self.held_Kn.clamp(min=0)], 0.0)
        self.watched_K = self.held_weight_Kn.sum(1) > 0
        """Which networks have held-out pairs."""
        self.taught_K = (self.rows_Kn >= 0).any(1)
        self.crossed = CrossFit(self.held_rows, self.held_Kn, self.held_weight_Kn, early=config.patience is not None,
                             calibrate=config.calibrate, seed=seed)
        self.epoch = 0
        self.loss: list[list[float]] = []
        self.held_loss: list[list[float]] = []
        self.best = model.net.flat.detach().clone()
        self.best_loss = torch.full((model.K,), torch.inf, device=self.best.device)
        self.best_epoch = torch.zeros(model.K, dtype=torch.int64, device=self.best.device)

    def _split(self, data: PairData) -> tuple[list[Int[Tensor, "_"]], list[Int[Tensor, "_"]]]:
        train, held = list[Tensor](), list[Tensor]()
        for g, rows in enumerate(data.rows):
            n = round(len(rows) * self.config.held_out)
            n = min(n, max(len(rows) - 1, 0))
            order = torch.randperm(len(rows), generator=Seeds(self.seed).child("held out", g).torch()).to(rows.device)
            train.append(rows[order[n:].sort().values])
            held.append(rows[order[:n].sort().values])
        return train, held

    @property
    def active(self) -> Bool[Tensor, "K"]:
        """Which networks go on."""
        if self.config.patience is None:
            return torch.ones_like(self.watched_K)
        return self.taught_K & (~self.watched_K | (self.epoch - self.best_epoch < self.config.patience))

    def one_epoch(self) -> None:
        active = self.active
        loss = self.trainer.epoch(self.data, self.rows_Kn, active_K=None if bool(active.all()) else active)
        self.epoch += 1
        self.loss.append(loss.tolist())
        if bool(self.watched_K.any()):
            held = self._held_out_loss()
            self.held_loss.append(held.tolist())
            better = active & (held < self.best_loss)
            self.best_loss = torch.where(better, held, self.best_loss)
            self.best_epoch = torch.where(better, self.epoch, self.best_epoch)
            self.best[better] = self.model.net.flat.detach()[better]
        if self.out is not None:
            save_state(self.out / _FILE, self._state())

    def _held_out_loss(self) -> Float[Tensor, "K"]:
        rows, weight = self.held_Kn, self.held_weight_Kn
        gaps = self.trainer.all_gaps(self.data, rows)
        loss = self.trainer.losses(gaps, self.data, rows.clamp(min=0))
        self.crossed.look(gaps, loss)
        mean = (torch.where(rows >= 0, loss, 0.0) * weight).sum(1) / weight.sum(1).clamp(min=1e-12)
        return torch.where(self.watched_K, mean, torch.nan)

    @torch.no_grad()
    def result(self) -> Fitted:
        stops = self.watched_K if self.config.patience is not None else torch.zeros_like(self.watched_K)
        self.model.net.flat[stops] = self.best[stops]
        self.trainer.standardise(self.data)
        label, tie = self.data.label, self.data.tie
        found = self.crossed.calibration(self.model, self.pairs, label, tie) if self.held_loss else None
        if self.held_loss and self.config.calibrate:
            self._calibrate()
        kept = torch.where(stops, self.best_epoch, self.epoch)
        return Fitted(reward=self.model, loss=self.loss, held_out_loss=self.held_loss, best_epoch=kept.tolist(),
                      calibration=found, counts=self.counts)

    def _calibrate(self) -> None:
        gaps = self.trainer.all_gaps(self.data, self.held_Kn)
        for k in range(self.model.K):
            rows = self.held_Kn[k].clamp(min=0)
            self.model.temperature[k] = best_temperature(gaps[k], self.data.label[rows], self.held_Kn[k] >= 0,
                                                         tie=self.data.tie[rows], tie_width=self.model.tie_width)

    # --- checkpoints -------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        config = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.config).items() if k != "epochs"}
        return {"config": config, "seed": self.seed, "model": self.model.spec(), "pairs": len(self.data),
                "counts": self.counts, "learnt_from": self.learnt_from}

    def _state(self) -> dict[str, Any]:
        return {"format": _FORMAT, "identity": self._identity(), "trainer": self.trainer.state_dict(),
                "epoch": self.epoch, "loss": self.loss, "held_loss": self.held_loss, "best": self.best,
                "best_loss": self.best_loss, "best_epoch": self.best_epoch, "rows": self.rows_Kn,
                "crossed": self.crossed.state_dict()}

    def restore(self) -> None:
        """Goes on from the checkpoint, if there is one."""
        if self.out is None:
            raise BadInput("out", expected="the folder of the fit to go on with", received=None)
        if not (self.out / _FILE).exists():
            return
        state = load_state(self.out / _FILE)
        if state.get("format") != _FORMAT or state["identity"] != self._identity():
            raise BadInput("out", expected="a checkpoint of this fit (only epochs may differ)", received=str(self.out),
                           fix="resume with the same preferences and options, or choose another folder")
        self.trainer.load_state_dict(state["trainer"])
        self.epoch, self.loss, self.held_loss = state["epoch"], state["loss"], state["held_loss"]
        for mine, saved in ((self.best, "best"), (self.best_loss, "best_loss"), (self.best_epoch, "best_epoch"),
                            (self.rows_Kn, "rows")):
            mine.copy_(state[saved])
        self.crossed.load_state_dict(state["crossed"])


def _digest(model: LearnedReward, pairs: Preferences) -> str:
    """A hash of all that a fit reads of its preferences: which fragments, what was said, and their steps."""
    store = pairs.episodes
    found = hashlib.sha256()
    for part in (pairs.row, pairs.start, pairs.length, pairs.label, pairs.tie, pairs.margin, pairs.weight, pairs.level,
                 pairs.group, store.mask, model.features(store)[store.mask]):
        found.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
