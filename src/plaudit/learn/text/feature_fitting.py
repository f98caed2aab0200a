"""`fit_features`: preferences, and features that somebody can name, give a reward model; few pairs are enough."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.saving import save_reward
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import DERIVED, plain_text
from plaudit.feedback.records import Preference
from plaudit.feedback.text.checks import check_pairs, raise_faults
from plaudit.feedback.text.splitting import prompt_key, split_by_prompt
from plaudit.learn.text import feature_card
from plaudit.learn.text.evidence import pairs
from plaudit.learn.text.feature_heads import FeatureHead, HeadOptions, PairTable, fit_head, fixed_head
from plaudit.learn.text.feature_reports import (
    Response,
    permutation_importance,
    response_curves,
    sign_weights,
    with_length,
)
from plaudit.learn.text.feature_reward import FeatureReward, Kind, Missing, Running, length_of
from plaudit.learn.text.feature_scaling import Scaling
from plaudit.learn.text.features import Feature, FeatureSet, Progress
from plaudit.learn.text.metrics import HeldOut, measured

BACKGROUND = 256
"""Training rows that a model keeps for its reports."""
HARMLESS = ("undecided", "one class", "all masked")


@dataclass(frozen=True, kw_only=True)
class FitFeatures:
    """How a feature model is fitted.

    Example:
        >>> FitFeatures(kind="linear").heads.folds
        5
    """

    kind: Kind = "mlp"
    """Which model pays: a perceptron `mlp`, `linear`, or the plain `mean`. All three are fitted and reported."""
    heads: HeadOptions = field(default_factory=HeadOptions)
    """How the perceptron and the linear model are fitted."""
    length_control: bool = False
    """Whether the length is a further column in training, which is then held at its mean: what people like for being
    long is not put down to a feature that goes with length."""
    on_missing: Missing = "impute"
    """What a row without one of its features is worth: `impute` its mean (and what its flag has earned), `unknown`."""
    validation: float = 0.1
    """The share that is held out, by prompt; 0 holds none out (the measures on folds are there all the same)."""
    running: Running = field(default_factory=Running)
    """How the functions run."""
    seed: int = 0
    """The root of all randomness."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise BadInput("kind", expected=f"one of {', '.join(get_args(Kind))}", received=self.kind)
        if not 0 <= self.validation < 1:
            raise BadInput("validation", expected="a share in [0, 1)", received=self.validation)


@dataclass(frozen=True, eq=False)
class FittedFeatures:
    """What `fit_features` gives."""

    reward: FeatureReward
    report: Mapping[str, Any]
    """JSON: what was dropped, how good each model is, importance, response curves, correlations with length."""
    curves: Sequence[Response]
    folder: Path | None = None

    @property
    def held_out(self) -> Mapping[str, HeldOut]:
        """By model: measures on held-out prompts (on left-out folds where none were held out)."""
        return {kind: HeldOut(**{k: v for k, v in found.items() if k in HeldOut.__dataclass_fields__})
                for kind, found in self.report["measures"].items()}


def fit_features(records: Sequence[Preference], features: FeatureSet | Sequence[Feature], *,
                 config: FitFeatures | None = None, out: str | Path | None = None,
                 progress: Progress | None = None, **options: Any) -> FittedFeatures:
    """Fits a reward model of named features to preferences over texts.

    Args:
        records: Preferences: labels, strengths, right options or ratings; ties and weights count. Columns that all
            records have in their provenance are there for the functions.
        features: What makes an answer good.
        config: How; single options of it may also be given by name.
        out: A folder for the model (`save_reward`'s form, with `card.json` and `README.md` beside it).
        progress: Told what is being done and how far it is.
        **options: Fields of `FitFeatures`.

    Raises:
        BadInput: for rows with faults, features that cannot be read or say nothing, or evidence that teaches nothing.
        Unsupported: with `out`, for a feature that no file can name (a lambda).

    Example:
        >>> short = Feature("words", lambda completion_text: len(completion_text.split()), better="less")
        >>> kind = Feature("kind", lambda completion_text: "please" in completion_text, better="more")
        >>> records = [Preference(context=f"{i}?", options=("please wait " * (1 + i % 3), "wait " * (1 + i % 5)),
        ...                       label=1.0) for i in range(40)]
        >>> fitted = fit_features(records, [short, kind], kind="linear")
        >>> fitted.held_out["linear"].accuracy
        1.0
    """
    how = replace(config or FitFeatures(), **options)
    features = features if isinstance(features, FeatureSet) else FeatureSet(features)
    if out is not None:
        features.spec()  # what cannot be saved is said before any work
    raise_faults(check_pairs(records), allow=HARMLESS)
    run = _Fit(list(records), features, how, progress or (lambda text, done, whole: None))
    fitted = run.fitted()
    if out is None:
        return fitted
    save_reward(fitted.reward, out)
    feature_card.write(out, fitted.reward, fitted.report)
    return replace(fitted, folder=Path(out))


@dataclass(frozen=True, eq=False)
class _Side:
    """Records with the features of their options."""

    raw_BD: Tensor
    texts: list[str]
    family: list[Hashable]
    """Of each option."""
    pair_N2: Tensor
    """Rows of the options of each pair."""
    said: list[tuple[float, float, bool, float]]
    """Label, weight, tie and margin of each pair."""

    def table(self, x_BC: Float[Tensor, "B C"]) -> PairTable:
        label, weight, tie, margin = (list(c) for c in zip(*self.said, strict=True)) if self.said else ([],) * 4
        return PairTable(x_BC[self.pair_N2], torch.tensor(label), torch.tensor(weight),
                         torch.tensor(tie, dtype=torch.bool), torch.tensor(margin),
                         tuple(self.family[i] for i in self.pair_N2[:, 0].tolist()))


class _Fit:
    """From records to a model and its report."""

    def __init__(self, records: list[Preference], features: FeatureSet, how: FitFeatures, tell: Progress) -> None:
        self.features, self.how, self.tell, self.records = features, how, tell, records
        train, held = split_by_prompt(records, validation=how.validation, seed=how.seed) if how.validation else (
            records, [])
        if not any(pairs(r) for r in train):
            raise BadInput("records", expected="preferences", received="no record that says which option is better")
        features.limit(pool=how.running.pool(), time_limit_s=how.running.time_limit_s)
        both = self._read([*train, *held])
        self.train, self.held = both[:len(train)], both[len(train):]
        self.n = len(train)

    def _read(self, records: list[Preference]) -> list[tuple[Preference, Tensor]]:
        """Each record with the features [O, D] of its options."""
        common = [n for n in records[0].provenance if n not in DERIVED and all(n in r.provenance for r in records)]
        prompts = [r.context for r in records for _ in r.options]
        said = [o for r in records for o in r.options]
        found = self.features.read(prompts, said, progress=self.tell, columns={
            n: [r.provenance[n] for r in records for _ in r.options] for n in common})
        self.why = found.why
        return list(zip(records, found.value_BD.split([len(r.options) for r in records]), strict=True))

    def _side(self, rows: Sequence[tuple[Preference, Tensor]]) -> _Side:
        texts = [plain_text(o) for r, _ in rows for o in r.options]
        family: list[Hashable] = [prompt_key(r) for r, _ in rows for _ in r.options]
        raw = torch.cat([x for _, x in rows]) if rows else torch.zeros(0, len(self.features))
        if self.how.length_control:
            raw = torch.cat([raw, length_of(texts).unsqueeze(1)], 1)
        at, pair, said = 0, list[list[int]](), list[tuple[float, float, bool, float]]()
        for record, _ in rows:
            for i, j, label, _ in pairs(record):
                if texts[at + i] != texts[at + j]:
                    pair.append([at + i, at + j])
                    said.append((label, record.weight, record.tie, record.margin))
            at += len(record.options)
        return _Side(raw, texts, family, torch.tensor(pair, dtype=torch.int64).view(-1, 2), said)

    def fitted(self) -> FittedFeatures:
        """The model."""
        seeds, side = Seeds(self.how.seed), self._side(self.train)
        names = [*self.features.names, *(["length"] if self.how.length_control else [])]
        used = side.pair_N2.flatten().unique()
        scaling = Scaling.of(side.raw_BD[used], names, why=[*self.why, {}])
        x = scaling(side.raw_BD).x_BC
        table = side.table(x)
        linear = replace(self.how.heads, hidden=())
        heads: dict[Kind, FeatureHead] = {
            "mean": fixed_head(sign_weights(scaling, {f.name: f.better for f in self.features}, table)),
            "linear": fit_head(table, options=linear, seed=seeds.child("linear"), progress=self._telling("linear")),
            "mlp": fit_head(table, options=self.how.heads, seed=seeds.child("mlp"), progress=self._telling("mlp"))}
        for head in heads.values():
            head.standardise(x[used])
        background = x[used[torch.randperm(len(used), generator=seeds.child("background").torch())[:BACKGROUND]]]
        reward = FeatureReward(self.features, scaling, heads, kind=self.how.kind, background=background,
                               length_control=self.how.length_control, on_missing=self.how.on_missing,
                               running=self.how.running)
        held = self._side(self.held)
        curves = response_curves(reward)
        report = {**self._counts(scaling, side), "measures": self._measures(heads, table, scaling, held),
                  "measured_on": "held-out prompts" if held.said else "folds that the members left out",
                  "responses": {c.name: c.to_json() for c in curves}, **self._lengths(reward, side, x)}
        on = held.table(scaling(held.raw_BD).x_BC) if held.said else table
        found = permutation_importance(heads[self.how.kind], scaling, on, seed=seeds)
        report["importance"] = {n: [round(v, 6) for v in (i.mean, i.low, i.high)] for n, i in found.items()}
        reward.about = {"report": json.loads(json.dumps(report, default=_plain))}
        return FittedFeatures(reward, reward.about["report"], curves)

    def _telling(self, what: str) -> Callable[[int, int], None]:
        return lambda done, whole: self.tell(f"fitting {what}", done, whole)

    def _counts(self, scaling: Scaling, side: _Side) -> dict[str, Any]:
        lost = side.raw_BD.isnan().double().mean(0).tolist() if len(side.raw_BD) else []
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(record.to_json(), sort_keys=True, default=str).encode())
        return {"records": self.n, "pairs": len(side.said), "ties": sum(t for _, _, t, _ in side.said),
                "prompts": len(set(side.family)), "data": digest.hexdigest(), "dropped": dict(scaling.dropped),
                "missing": {n: round(v, 4) for n, v in zip(scaling.names, lost, strict=True) if v > 0},
                "reasons": {n: dict(w) for n, w in zip(self.features.names, self.why, strict=True) if w},
                "kind": self.how.kind, "length_control": self.how.length_control}

    def _measures(self, heads: Mapping[Kind, FeatureHead], table: PairTable, scaling: Scaling,
                  held: _Side) -> dict[str, Any]:
        """Every model on what it did not see."""
        out: dict[str, Any] = {}
        on = held.table(scaling(held.raw_BD).x_BC) if held.said else table
        strict = (on.label_N != 0.5) & ~on.tie_N
        for kind, head in heads.items():
            if held.said or head.seen_gap_N is None:
                value = head(on.x_N2C.reshape(-1, scaling.C)).view(-1, 2)
                gap = (value[:, 0] - value[:, 1]) * head.scale
            else:
                gap = head.seen_gap_N
            out[kind] = {**measured(gap[strict], on.label_N[strict]).to_json(), "decay": head.decay}
        return out

    def _lengths(self, reward: FeatureReward, side: _Side, x: Tensor) -> dict[str, Any]:
        """What goes with length, among options of one prompt."""
        value = reward.head(x if not reward.length_control else _at_mean(x, reward.scaling.kept.index("length"))
                            if "length" in reward.scaling.kept else x)
        of = {n: with_length(side.raw_BD[:, d], side.texts, side.family) for d, n in enumerate(self.features.names)}
        return {"length_correlation": with_length(value, side.texts, side.family), "length_of_features": of}


def _at_mean(x: Tensor, column: int) -> Tensor:
    out = x.clone()
    out[:, column] = 0.0
    return out


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
