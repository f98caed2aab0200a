"""`fit_text`: a reward model from preferences and ratings of texts, ready to score and saved for everybody's tools."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from plaudit.core.chat import ChatFormat
from plaudit.core.checkpoint import read_tensors, write_json, write_tensors
from plaudit.core.devices import best_device
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.feedback.text.checks import check_pairs, raise_faults
from plaudit.feedback.text.splitting import split_by_prompt
from plaudit.learn.text import modelling, procedures, saving
from plaudit.learn.text.denoising import denoise, write_strengths
from plaudit.learn.text.evidence import attribute_names, pairs
from plaudit.learn.text.examples import Collated, Example, collate, data_hash, tokenised, with_bootstrap
from plaudit.learn.text.fit_options import RATES, FitText, format_of, options_of, said
from plaudit.learn.text.forward import Encoder, prepare
from plaudit.learn.text.heads import HeadSpec
from plaudit.learn.text.language import check_language
from plaudit.learn.text.metrics import HeldOut, held_out
from plaudit.learn.text.modelling import Lora, RewardModel
from plaudit.learn.text.objectives import Sum, stages
from plaudit.learn.text.processes import by_one, join
from plaudit.learn.text.sharding import is_sharded, whole_state
from plaudit.learn.text.strengths import cross_fit
from plaudit.learn.text.trainer import CHECKPOINTS, Loop, LoopOptions, Meta, Progress, isolated_randomness

if TYPE_CHECKING:
    from plaudit.learn.text.reward import TextReward

_FINAL = "final.safetensors"
STRENGTHS = "strengths.jsonl"
_OVERALL = ("helpfulness", "overall", "overall_score", "score")


@dataclass(frozen=True)
class Fitted:
    """A training that ended."""

    folder: Path
    """The saved model."""
    history: tuple[dict[str, Any], ...]
    """What was logged, stage after stage."""
    held_out: HeldOut | None
    """The measures on held-out records."""
    meta: Mapping[str, Any]
    """What was saved with the model."""

    def reward(self, **options: Any) -> TextReward:
        """The model as a Reward; options of `TextReward.load`."""
        from plaudit.learn.text.reward import TextReward

        return TextReward.load(self.folder, **options)


def fit_text(records: Sequence[Preference], *, out: str | Path, progress: Progress | None = None,
             keep_checkpoints: bool = False, validation_records: Sequence[Preference] | None = None,
             **options: Any) -> Fitted:
    """Fits a reward model to preferences and ratings.

    A run that was killed goes on from its last whole checkpoint when it is started again with the same arguments; on
    a CPU the model that comes out has the same bytes.

    Args:
        records: What was said of which texts.
        out: The folder of the model.
        progress: Called after each step with the step, the number of steps, and what was logged last.
        keep_checkpoints: Whether checkpoints stay when the model is saved.
        validation_records: What is held out, in place of a share of the records.
        options: The fields of `FitText`, and those of `LoopOptions` (`epochs`, `lr`, `batch`, `seed`, ...).

    Raises:
        BadInput: before any work: for a model, a loss or records that cannot be; naming the rows.
        NotANumber: when the loss is no longer finite.

    Example:
        >>> fit_text([], model="tiny", out="reward")
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: records: expected at least one record, received none
    """
    how = options_of(**options)
    plan = stages(how.loss, lm_coefficient=how.lm_coefficient)
    records = list(records)
    if not records:
        raise BadInput("records", expected="at least one record", received="none")
    with isolated_randomness():
        join()
        format = format_of(how)
        check_language(how.lm_coefficient, plan, model=how.model)
        train, held = _sides(records, validation_records, how, plan, format)
        identity = {"data": data_hash(records), "loss": how.loss, "options": said(how)}
        done = _finished(Path(out), identity)
        if done is not None:
            return done
        return _Fit(how, plan, format, Path(out), train, held, identity, progress).run(keep_checkpoints)


def _sides(records: Sequence[Preference], given: Sequence[Preference] | None, how: FitText, plan: Sequence[Sum],
           format: ChatFormat) -> tuple[list[tuple[int, Preference]], list[tuple[int, Preference]]]:
    """What is trained on and what is held out, with the numbers of the rows; faults stop it here."""
    raise_faults(check_pairs(records, format=format, other=given), allow=_harmless(plan))
    needs = frozenset(n for s in plan for n in s.needs)
    if "pairs" in needs and not any(pairs(r) for r in records):
        raise BadInput("records", expected="preferences", received="no record that says which option is better",
                       fix="loss='regression' learns from ratings alone")
    if "ratings" in needs and not attribute_names(records):
        raise BadInput("records", expected="ratings", received="none, or all masked",
                       fix="loss='bradley-terry' learns from preferences alone")
    number = {id(r): i for i, r in enumerate(records)}
    if given is not None:
        return list(enumerate(records)), list(enumerate(given))
    train, held = split_by_prompt(records, validation=how.validation, seed=how.loop.seed)
    return [(number[id(r)], r) for r in train], [(number[id(r)], r) for r in held]


def _harmless(plan: Sequence[Sum]) -> tuple[Any, ...]:
    """Faults that this training can live with: a rated option alone is no comparison, an undecided pair no loss."""
    rated = any("ratings" in s.needs for s in plan)
    return ("undecided", "identical") if rated else ("undecided", "all masked", "one class")


def _finished(out: Path, identity: Mapping[str, Any]) -> Fitted | None:
    if not saving.is_saved(out):
        return None
    meta = saving.read_meta(out)
    if meta.get("training", {}).get("identity") != identity:
        raise BadInput("out", expected="a new folder, or that of the same training", received=str(out),
                       fix="pass another folder, or remove this one")
    raw = meta["training"].get("held_out")
    found = None if raw is None else HeldOut(**{k: v for k, v in raw.items() if k in HeldOut.__dataclass_fields__})
    return Fitted(out, tuple(meta["training"]["history"]), found, meta)


@dataclass
class _Fit:
    """One training, from records to a saved model."""

    how: FitText
    plan: list[Sum]
    format: ChatFormat
    out: Path
    train: list[tuple[int, Preference]]
    held: list[tuple[int, Preference]]
    identity: dict[str, Any]
    progress: Progress | None

    def run(self, keep_checkpoints: bool) -> Fitted:
        """All stages, then saving."""
        from plaudit.learn.text import card

        self.attributes = attribute_names([r for _, r in self.train]) if self._needs("ratings") else ()
        model = self._made()
        encoder = self._placed(model)
        train, held = self._examples(model, encoder)
        history: list[dict[str, Any]] = []
        for number, loss in enumerate(self.plan, 1):
            if "target" in loss.needs:
                model, train = self._gaussian(model, encoder, train)
                held = self._cached(model, encoder, held)
            history += self._stage(model, encoder, loss, number, train, held)
            if "target" in loss.needs:
                model.head.calibrate(self._rewards(model, encoder, train))
        alpha = self._extrapolated(model, encoder, held) if self.how.expo else None
        measured = self._measure(model, encoder, held) if held else None
        loss = " > ".join(s.name for s in self.plan) if self.how.lm_coefficient else self.how.loss
        meta = {"loss": loss, "base": str(self.how.model), "training": {
            "identity": self.identity, "history": _plain(history), "records": len(self.train),
            "held_out": None if measured is None else measured.to_json(), "expo_alpha": alpha, "cut": self.cut}}

        def written() -> None:
            whole = self._whole(model)
            saving.save(self.out, backbone=modelling.merged(whole).cpu(), head=whole.head.cpu(), format=self.format,
                        meta=meta)
            card.write(self.out)
            if not keep_checkpoints:
                shutil.rmtree(self.out / CHECKPOINTS, ignore_errors=True)

        by_one(written)
        return Fitted(self.out, tuple(history), measured, saving.read_meta(self.out))

    def _made(self) -> RewardModel:
        spec = self._spec(self.how.ensemble if len(self.plan) == 1 or not self._needs("target") else 1)
        return modelling.make(self.how.model, spec, seed=self._seed("head"), lora=self.how.lora,
                              prototypes=self._needs("prototypes"), dropout=self.how.dropout,
                              twice=self._needs("passes"), language=self._needs("language"))

    def _whole(self, model: RewardModel) -> RewardModel:
        """The trained model, put together again where its weights were spread over processes."""
        if not is_sharded(model):
            return model
        whole = self._made()
        whole.load_state_dict(read_tensors(self.out / CHECKPOINTS / f"stage-{len(self.plan)}" / _FINAL)[0])
        return whole

    def _needs(self, name: str) -> bool:
        return any(name in s.needs for s in self.plan)

    def _seed(self, name: str) -> int:
        return Seeds(self.how.loop.seed).child(name).integer() % 2**31

    def _spec(self, members: int) -> HeadSpec:
        if not self.attributes:
            return HeadSpec(members=members)
        if self.how.weights is not None:
            unknown = sorted(set(self.how.weights) - set(self.attributes))
            if unknown:
                raise BadInput("weights", expected=f"attributes out of {', '.join(self.attributes)}",
                               received=", ".join(unknown))
            weights = tuple(float(self.how.weights.get(a, 0.0)) for a in self.attributes)
        else:
            first = next((a for o in _OVERALL for a in self.attributes if a.lower() == o), self.attributes[0])
            weights = tuple(float(a == first) for a in self.attributes)
        return HeadSpec(kind="attributes", attributes=self.attributes, weights=weights, members=members)

    def _placed(self, model: RewardModel) -> Encoder:
        """On its device, and how its batches are made."""
        model.to("cpu" if self.how.loop.arguments.get("use_cpu") else best_device())
        base = model.backbone.get_base_model() if self.how.lora is not None else model.backbone
        return prepare(base, max_length=self.format.max_length, pad_id=int(self.format.tokenizer.pad_token_id),
                       packing=self.how.packing, dtype=torch.bfloat16 if self.how.loop.bf16 else None)

    def _examples(self, model: RewardModel, encoder: Encoder) -> tuple[list[Example], list[Example]]:
        """Tokens, bootstrap counts and cross-fitted strengths."""
        sides = []
        for side in (self.train, self.held):
            made = tokenised([r for _, r in side], self.format)
            sides.append([replace(e, row=row) for e, (row, _) in zip(made, side, strict=True)])
        train, held = sides
        cuts = [n for e in (*train, *held) for n in e.cut if n]
        self.cut = {"texts": len(cuts), "tokens": sum(cuts), "side": self.how.truncation,
                    "max_length": self.format.max_length}
        if self.how.frozen or self._needs("mu") or self.how.denoise is not None:
            states = self._cached(model, encoder, train)
            if self._needs("mu") or self.how.denoise is not None:
                train = self._strengths(states, train)
            if self.how.frozen:
                kept = {e.row: e.states for e in states}
                train = [replace(e, states=kept[e.row]) for e in train]
                held = self._cached(model, encoder, held)
        return with_bootstrap(train, self.how.ensemble, seed=self.how.loop.seed), held

    def _strengths(self, states: Sequence[Example], train: list[Example]) -> list[Example]:
        """Labels cleaned, or mu put beside them."""
        labelled = [e for e in states if len(e.ids) == 2 and e.record.label is not None and e.states is not None]
        rows, records = [e.row for e in labelled], [e.record for e in labelled]
        found = cross_fit([e.states for e in labelled if e.states is not None], records,
                          [e.family for e in labelled], seed=self.how.loop.seed, how=self.how.cross_fit)
        self.out.mkdir(parents=True, exist_ok=True)
        write_strengths(self.out / STRENGTHS, rows, records, found, self.how.denoise)
        if self.how.denoise is None:
            mu = dict(zip(rows, found.mu.tolist(), strict=True))
            return [replace(e, mu=mu.get(e.row, float("nan"))) for e in train]
        marked = [replace(r, provenance={**r.provenance, "plaudit_row": row})
                  for row, r in zip(rows, records, strict=True)]
        known = set(rows)
        cleaned = {r.provenance["plaudit_row"]: r for r in denoise(marked, found, self.how.denoise)}
        return [replace(e, record=cleaned.get(e.row, e.record)) for e in train
                if e.row in cleaned or e.row not in known]

    def _cached(self, model: RewardModel, encoder: Encoder, examples: Sequence[Example]) -> list[Example]:
        """With the states that the backbone gives now."""
        sequences = [s for e in examples for s in e.ids]
        if not sequences:
            return []
        family = [e.family for e in examples for _ in e.ids]
        states = modelling.states_of(model.backbone, encoder, sequences, family)
        parts = states.split([len(e.ids) for e in examples])
        return [replace(e, states=part) for e, part in zip(examples, parts, strict=True)]

    def _gaussian(self, model: RewardModel, encoder: Encoder,
                  train: list[Example]) -> tuple[RewardModel, list[Example]]:
        """The second stage of a Gaussian ensemble: the backbone stays, the members copy the first stage's reward."""
        cached = self._cached(model, encoder, train)
        targets = [[float(x) for x in self._reward_of(model, e)] for e in cached]
        spec = HeadSpec(kind="gaussian", members=max(1, self.how.ensemble))
        head = modelling.Head(model.head.layer.in_features, spec, seed=self._seed("gaussian"))
        return RewardModel(model.backbone, head.to(model.head.layer.weight.device)), \
            with_bootstrap(procedures.as_targets(cached, targets), self.how.ensemble, seed=self.how.loop.seed)

    @torch.no_grad()
    def _reward_of(self, model: RewardModel, example: Example) -> torch.Tensor:
        assert example.states is not None
        head = model.head
        return head.members(head(example.states.to(head.layer.weight))).mean(-1).cpu()

    def _rewards(self, model: RewardModel, encoder: Encoder, examples: Sequence[Example]) -> torch.Tensor:
        cached = [e for e in examples if e.states is not None] or self._cached(model, encoder, examples)
        with torch.no_grad():
            states = torch.cat([e.states for e in cached if e.states is not None])
            return model.head.members(model.head(states.to(model.head.layer.weight))).cpu()

    def _stage(self, model: RewardModel, encoder: Encoder, loss: Sum, number: int, train: Sequence[Example],
               held: Sequence[Example]) -> list[dict[str, Any]]:
        """One stage; a finished one is read back."""
        folder = self.out / CHECKPOINTS / f"stage-{number}"
        final, log = folder / _FINAL, folder / "history.json"
        cached = all(e.states is not None for e in train)
        inner = RewardModel(None, model.head) if cached else model
        if cached:
            inner.prototype_ZD = model.prototype_ZD
        if final.is_file() and log.is_file():
            inner.load_state_dict(read_tensors(final)[0])
            return json.loads(log.read_text(encoding="utf-8"))
        by_one(lambda: write_tensors(folder / "first.safetensors", inner.state_dict()))
        options = self.how.loop if not cached or self.how.frozen else replace(self.how.loop, lr=RATES["frozen"])
        loop = Loop(inner, loss, self._collator(encoder), options, folder, attributes=self.attributes,
                    meta=self._meta(), progress=self.progress)
        history = [{"stage": number, **line} for line in loop.run(train, held)]
        state = whole_state(inner)
        by_one(lambda: (write_json(log, _plain(history)), write_tensors(final, state)))
        return history

    def _collator(self, encoder: Encoder) -> Callable[[Sequence[Example]], Collated]:
        return lambda some: collate(some, encoder, attributes=self.attributes)

    def _meta(self) -> Meta | None:
        if self.how.meta is None:
            return None
        if self.how.frozen:
            raise Unsupported("MetaRM moves the whole model: it does not go with a frozen backbone")
        groups: list[Example] = []
        for row, (prompt, samples) in enumerate(self.how.meta):
            if len(samples) < 2:
                raise BadInput(f"meta[{row}]", expected="at least 2 samples of a prompt", received=len(samples))
            ids = tuple(tuple(e.ids) for e in self.format.encode_options(prompt, samples))
            record = Preference(options=tuple(samples), correct=(False,) * len(samples), context=prompt)
            boot = (1.0,) * self.how.ensemble if self.how.ensemble > 1 else ()
            groups.append(Example(row, record, ids, ("meta", row), boot=boot))
        return Meta(groups, step_size=self.how.meta_step, batch=self.how.meta_batch)

    def _measure(self, model: RewardModel, encoder: Encoder, held: Sequence[Example]) -> HeldOut:
        model.eval()
        return held_out(model.say, held, self._collator(encoder), batch=max(8, self.how.loop.batch),
                        attributes=self.attributes)

    def _extrapolated(self, model: RewardModel, encoder: Encoder, held: Sequence[Example]) -> float:
        """Goes beyond the last stage as far as held-out accuracy (then log loss) says."""
        folder = self.out / CHECKPOINTS / f"stage-{len(self.plan)}"
        inner: nn.Module = RewardModel(None, model.head) if self.how.frozen else model
        first, last = (read_tensors(folder / f"{name}.safetensors")[0] for name in ("first", "final"))

        def measure(alpha: float) -> float:
            inner.load_state_dict(procedures.extrapolate(first, last, alpha))
            found = self._measure(model, encoder, held)
            return (found.accuracy or 0.0) - 1e-3 * (found.nll or 0.0)

        alpha, _ = procedures.best_alpha(measure)
        inner.load_state_dict(procedures.extrapolate(first, last, alpha))
        return alpha


def _plain(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without times, which differ from run to run."""
    timed = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")
    return [{k: v for k, v in line.items() if k not in timed} for line in history]


__all__ = ["FitText", "Fitted", "Lora", "LoopOptions", "fit_text", "format_of", "options_of"]
