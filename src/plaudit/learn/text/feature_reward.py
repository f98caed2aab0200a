"""`FeatureReward`: a reward model that reads named features of a text and says what each of them paid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Reads
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.core.tokens import Tokens, plain_text
from plaudit.learn.text.feature_heads import FeatureHead
from plaudit.learn.text.feature_scaling import Columns, Scaling
from plaudit.learn.text.features import FeatureSet
from plaudit.specify.text.pool import Pool
from plaudit.specify.text.reading import at_the_end

Kind = Literal["mlp", "linear", "mean"]
Missing = Literal["impute", "unknown"]
NO_CLASSIFIER = "it reads the numbers of feature functions, not tokens, so there is no sequence classifier of it"


@dataclass(frozen=True, kw_only=True)
class Running:
    """How the feature functions run.

    Example:
        >>> Running(workers=0).pool() is None
        True
    """

    workers: int = 0
    """Worker processes with a hard limit of time; 0 calls functions in this process."""
    time_limit_s: float | None = 10.0
    """The longest time of a call."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise BadInput("workers", expected="an integer >= 0", received=self.workers)
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise BadInput("time_limit_s", expected="a positive number of seconds", received=self.time_limit_s)

    def pool(self) -> Pool | None:
        """The pool, which starts with its first call."""
        return Pool(workers=self.workers, time_limit_s=self.time_limit_s or 60.0) if self.workers else None


@dataclass(frozen=True, eq=False)
class Table:
    """B completions as a feature model reads them."""

    raw_BD: Float[Tensor, "B D"]
    columns: Columns
    unknown: Mapping[str, Bool[Tensor, "B"]]
    """Which rows have no reward, by reason."""


class FeatureReward(Reward):
    """A reward of named features, made by `fit_features` or `load_reward`; it pays at the last token.

    The terms of its scores are what each feature adds to the value at the mean of the training set, and `base`, that
    value; they sum to the reward. Two more have the weight 0: how many features were `imputed`, and how many were
    `clipped` to the range that was judged. Members are the opinions of the ensemble.

    A row without any feature is unknown; so is one that lacks a feature which was never missing in training, and one
    without words that lacks any.

    Args:
        features: What it reads.
        scaling: What the training set said of them.
        heads: A head for each kind.
        kind: Which of them pays.
        length_control: Whether the training had the length as a further column, which is held at its mean here.
        on_missing: `impute`, or `unknown`: then a row that lacks any feature is unknown.
        running: How the functions run.
        about: JSON about the training.
        background: Some training rows, for the reports.
        name: How it is called in logs.
    """

    def __init__(self, features: FeatureSet, scaling: Scaling, heads: Mapping[Kind, FeatureHead], *, kind: Kind = "mlp",
                 length_control: bool = False, on_missing: Missing = "impute", running: Running | None = None,
                 about: Mapping[str, Any] | None = None, background: Float[Tensor, "M C"] | None = None,
                 name: str = "features") -> None:
        if kind not in heads:
            raise BadInput("kind", expected=f"one of {', '.join(heads)}", received=kind)
        if on_missing not in get_args(Missing):
            raise BadInput("on_missing", expected=f"one of {', '.join(get_args(Missing))}", received=on_missing)
        self.features, self.scaling, self.heads = features, scaling, dict(heads)
        self.kind: Kind = kind
        self.on_missing: Missing = on_missing
        self.length_control, self.name = length_control, name
        self.running, self.about = running or Running(), dict(about or {})
        self.background = torch.zeros(0, scaling.C) if background is None else background
        features.limit(pool=self.running.pool(), time_limit_s=self.running.time_limit_s)
        self.needs = features.needs

    @property
    def head(self) -> FeatureHead:
        """The one that pays."""
        return self.heads[self.kind]

    def using(self, kind: Kind) -> FeatureReward:
        """The same with another of its heads.

        Raises:
            BadInput: when there is none of the kind.
        """
        return FeatureReward(self.features, self.scaling, self.heads, kind=kind, length_control=self.length_control,
                             on_missing=self.on_missing, running=self.running, about=self.about,
                             background=self.background, name=self.name)

    # --- scoring ----------------------------------------------------------------------------------------

    @property
    def reads(self) -> Reads:
        """What its features ask for; one that is missing is imputed or makes a row unknown."""
        parts = reduce(Reads.__or__, (reward.reads for reward in self.features.rewards), Reads())
        return Reads(optional=parts.named, anything=parts.anything)

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens) or not {"prompt", "completion"} <= set(episodes.columns):
            raise BadInput("episodes", expected="Tokens with prompts and completions as texts",
                           received=type(episodes).__name__)
        others = {n: c for n, c in episodes.columns.items() if n not in ("prompt", "completion")}
        table = self.table(episodes.columns["prompt"], episodes.columns["completion"], columns=others)
        x = table.columns.x_BC
        members = self.head.members(x)
        value = members.mean(0)
        why: dict[str, Tensor] = {}
        for reason, rows in table.unknown.items():
            value = torch.where(rows, torch.nan, value)
            why[reason] = at_the_end(rows.to(episodes.device), episodes)
        place = lambda row: at_the_end(row.to(episodes.device), episodes)  # noqa: E731
        terms = {n: place(torch.where(value.isnan(), torch.nan, t)) for n, t in self._terms(table).items()}
        return Score.of(
            place(value), mask=episodes.mask, terms=terms, weights={"imputed": 0.0, "clipped": 0.0}, why=why,
            members=torch.stack([place(m) for m in members]) if len(members) > 1 else None)

    def table(self, prompts: Sequence[Any], completions: Sequence[Any], *,
              columns: Mapping[str, Sequence[Any]] | None = None) -> Table:
        """The features of completions, as they were read and as the model reads them."""
        read = self.features.read(prompts, completions, columns=columns)
        return self.table_of(read.value_BD, [plain_text(c) for c in completions])

    def table_of(self, raw_BD: Float[Tensor, "B D"], texts: Sequence[str]) -> Table:
        """The same of features that were read before."""
        raw = torch.cat([raw_BD, length_of(texts).unsqueeze(1)], 1) if self.length_control else raw_BD
        made = self.scaling(raw)
        x = made.x_BC
        if self.length_control and "length" in self.scaling.kept:
            x = x.clone()
            x[:, self.scaling.kept.index("length")] = 0.0
        own = torch.tensor([n != "length" for n in self.scaling.kept])
        missing = made.missing_BD & own
        empty = torch.tensor([not t.strip() for t in texts], dtype=torch.bool)
        some = missing.any(1)
        unknown = {"no feature could be computed": (missing | ~own).all(1),
                   "the completion is empty, and not all features can say what that is worth": empty & some,
                   "a feature is missing that never was in training: " + self._first(missing): self.scaling.surprised(
                       made)}
        if self.on_missing == "unknown":
            unknown["a feature is missing"] = some
        return Table(raw, Columns(x, made.missing_BD, made.outside_BD), {r: u for r, u in unknown.items()
                                                                        if bool(u.any())})

    def _first(self, missing_BK: Tensor) -> str:
        """The names of features that are missing and were never."""
        lost = [n for k, n in enumerate(self.scaling.kept) if n not in self.scaling.flagged
                and bool(missing_BK[:, k].any())]
        return ", ".join(lost)

    def _terms(self, table: Table) -> dict[str, Float[Tensor, "B"]]:
        """What each kept feature paid, its flag included."""
        part_BC = self.head.attributions(table.columns.x_BC)
        out = {n: torch.zeros(len(part_BC)) for n in self.scaling.kept if n != "length" or not self.length_control}
        for c, k in enumerate(self.scaling.owner):
            if self.scaling.kept[k] in out:
                out[self.scaling.kept[k]] = out[self.scaling.kept[k]] + part_BC[:, c]
        base = self.head(torch.zeros(1, part_BC.shape[1])).expand(len(part_BC)).clone()
        return {**out, "base": base, "imputed": table.columns.missing_BD.sum(1).float(),
                "clipped": table.columns.outside_BD.sum(1).float()}

    # --- files ------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """JSON, for `save_reward`: names, forms, where the functions lie; the numbers are in the state."""
        heads = {k: {"hidden": list(h.net.sizes[1:-1]), "members": h.H, "decay": h.decay, "shift": h.shift,
                     "scale": h.scale} for k, h in self.heads.items()}
        return {"features": self.features.spec(), "scaling": self.scaling.to_json(), "heads": heads, "kind": self.kind,
                "length_control": self.length_control, "on_missing": self.on_missing, "about": self.about,
                "rows": len(self.background), "sequence_classifier": None, "why_not_standard": NO_CLASSIFIER,
                "running": {"workers": self.running.workers, "time_limit_s": self.running.time_limit_s}}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, trust: bool = False, device: str | None = None) -> FeatureReward:
        """The inverse of `spec`; feature functions are loaded only as `plaudit.core.consent` allows.

        Networks that are features compute on the device; a head of features does where its rows are.
        """
        scaling = Scaling.from_json(spec["scaling"])
        heads: dict[Kind, FeatureHead] = {}
        for kind, h in spec["heads"].items():
            net = PopulationMLP((scaling.C, *h["hidden"], 1), activation="tanh",
                                generators=[Seeds(0).torch() for _ in range(h["members"])])
            heads[kind] = FeatureHead(net, decay=h["decay"], shift=h["shift"], scale=h["scale"])
        features = FeatureSet.from_spec(spec["features"], trust=trust, device=device)
        return cls(features, scaling, heads, kind=spec["kind"],
                   length_control=spec["length_control"], on_missing=spec["on_missing"], about=spec["about"],
                   running=Running(**spec["running"]), background=torch.zeros(spec["rows"], scaling.C))

    def state_dict(self) -> dict[str, Any]:
        return {"scaling": self.scaling.state(), "background": self.background,
                "heads": {k: h.net.flat.detach() for k, h in self.heads.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        shapes = {k: tuple(h.net.flat.shape) for k, h in self.heads.items()}
        saved = {k: tuple(x.shape) for k, x in state["heads"].items()}
        if saved != shapes:
            raise BadInput("state", expected=f"weights of shapes {shapes}", received=saved)
        self.scaling = Scaling.from_json(self.scaling.to_json(), state["scaling"])
        self.background = state["background"]
        with torch.no_grad():
            for kind, head in self.heads.items():
                head.net.flat.copy_(state["heads"][kind])

    def fingerprint(self) -> str:
        """What changes when the model does."""
        digest = hashlib.sha256(repr([self.spec()[k] for k in ("scaling", "heads", "kind")]).encode())
        for head in self.heads.values():
            digest.update(head.net.flat.detach().numpy().tobytes())
        return digest.hexdigest()[:16]


def length_of(texts: Sequence[str]) -> Float[Tensor, "B"]:
    """The logarithm of the number of words, of one more.

    Example:
        >>> length_of(["", "one two three"])
        tensor([0.0000, 1.3863])
    """
    return torch.tensor([float(len(t.split())) for t in texts]).log1p()
