"""`TextReward`: a reward model of texts as a Reward, with the opinions of its members, paid at the end or per token."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.chat import ChatFormat
from plaudit.core.devices import check_device
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens
from plaudit.learn.text import attention, forward, saving
from plaudit.learn.text.batches import Budget, run
from plaudit.learn.text.encoding import Row, encode_rows
from plaudit.learn.text.loading import Fold, Loaded, load_classifier, whole_scores
from plaudit.learn.text.scored import Scored

Pays = Literal["end", "token", "change"]
Progress = Callable[[int], None]


class TextReward(Reward):
    """A reward model; made by `TextReward.load`, or by the fit of one.

    It reads `Tokens`: texts or conversations in the columns `prompt` and `completion`, or, where there are none, the
    ids themselves. It pays the score of the whole completion at its last token (`pays="end"`), the head's number at
    each token (`"token"`), or by how much the running score changed (`"change"`, which adds up to the score).

    Args:
        loaded: The model in parts.
        format: How texts become ids.
        pays: Where the reward is paid.
        batch_tokens: The tokens of a batch, or `auto`.
        share: Whether completions of one prompt are computed behind one copy of it, and rows packed.
        name: How it is called in logs.
    """

    def __init__(self, loaded: Loaded, *, format: ChatFormat, pays: Pays = "end", batch_tokens: int | str = "auto",
                 share: bool = True, name: str = "") -> None:
        if pays not in get_args(Pays):
            raise BadInput("pays", expected=f"one of {', '.join(get_args(Pays))}", received=pays)
        if pays != "end" and loaded.head is None:
            raise BadInput("pays", expected="end: this architecture has no number for each token", received=pays)
        self.loaded, self.format, self.share = loaded, format, share
        self.pays: Pays = pays
        self.name = name or loaded.name
        self.needs = Needs(time="episode" if pays == "end" else "prefix")
        self.device = next(loaded.backbone.parameters()).device
        self.budget = Budget.of(batch_tokens, device=self.device)
        self.source: dict[str, Any] | None = None
        """Where it was loaded from, and how."""
        self._encoder: forward.Encoder | None = None

    @staticmethod
    def load(model: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None,
             batch_tokens: int | str = "auto", head: Fold = None, max_length: int | None = None,
             truncation: Literal["left", "right", "refuse"] | None = None, as_chat: bool | None = None,
             share: bool = True, pays: Pays = "end", name: str = "") -> TextReward:
        """A folder that plaudit wrote, or any sequence classifier: a folder, or a name on the hub.

        Args:
            model: The folder or the name.
            device: Where it computes (`cpu`).
            dtype: In which precision.
            batch_tokens: The tokens of a batch, or `auto`; halved where memory runs out.
            head: Which label of a classifier with several is the reward, or the weights of its labels.
            max_length: The most tokens of a text (what the model was made for).
            truncation: Where a longer one is cut, or `refuse`: then it is unknown (as in training, else left).
            as_chat: Whether plain texts are said by a user and an assistant (as in training; else where the tokenizer
                has a template).
            share: Whether prompts are shared and rows packed.
            pays: Where the reward is paid.
            name: How it is called in logs.

        Raises:
            BadInput: for a folder that is missing, is pickled, is damaged or has lost its head.

        Example:
            >>> TextReward.load("no/such/folder/here")
            Traceback (most recent call last):
            plaudit.core.errors.BadInput: model: expected a folder that exists, or a name on the hub, ...
        """
        loaded, trained = _load(model, device=device, dtype=dtype, head=head)
        chat = trained.as_chat if trained else bool(getattr(loaded.tokenizer, "chat_template", None))
        format = trained or ChatFormat(loaded.tokenizer)
        format = replace(format, max_length=max_length or format.max_length or _longest(loaded),
                         truncation=truncation or format.truncation, as_chat=chat if as_chat is None else as_chat)
        made = TextReward(loaded, format=format, pays=pays, batch_tokens=batch_tokens, share=share, name=name)
        folds = [[k, w] for k, w in head.items()] if isinstance(head, Mapping) else head
        made.source = {"model": str(Path(model).resolve() if Path(model).exists() else model), "head": folds,
                       "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
                       "device": str(device) if device is not None else None}
        return made

    def spec(self) -> dict[str, Any]:
        """JSON, for `save_reward`: the folder and how it is read; the weights stay where they are.

        Raises:
            Unsupported: for a model that was not loaded from a folder.
        """
        if self.source is None:
            raise Unsupported(f"{self.name} was not loaded from a folder; save the model and load it from there")
        f = self.format
        return {**self.source, "max_length": f.max_length, "truncation": f.truncation, "as_chat": f.as_chat,
                "share": self.share, "pays": self.pays}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], device: str | None = None) -> TextReward:
        """The inverse of `spec`, on another device if one is named."""
        options = dict(spec) if device is None else {**spec, "device": device}
        folds = options.pop("head")
        dtype = options.pop("dtype")
        return TextReward.load(options.pop("model"), dtype=None if dtype is None else getattr(torch, dtype),
                               head={int(k): float(w) for k, w in folds} if isinstance(folds, list) else folds,
                               **options)

    @property
    def activation(self) -> Literal["identity", "sigmoid"]:
        """What servers of classifiers put the reward through: nothing where the model says that it regresses.

        Source:
            vLLM's `get_classification_act_fn`, for a model with one label.
        """
        config = self.loaded.backbone.config
        one = getattr(config, "num_labels", 1) == 1
        return "sigmoid" if one and getattr(config, "problem_type", None) != "regression" else "identity"

    def paying(self, pays: Pays) -> TextReward:
        """The same model, paying elsewhere."""
        made = TextReward(self.loaded, format=self.format, pays=pays, batch_tokens=self.budget.tokens,
                          share=self.share, name=self.name)
        made.source = self.source
        return made

    def spread(self) -> TextReward:
        """The same model read for how unsure each member of a Gaussian head is: its members are the sigma_h.

        Raises:
            BadInput: when the head is not Gaussian.
        """
        spec = getattr(self.loaded.head, "spec", None)
        if getattr(spec, "kind", "") != "gaussian":
            raise BadInput("model", expected="a Gaussian head", received=getattr(spec, "kind", "a single number"),
                           fix="train one with HeadSpec(kind='gaussian', members=H)")
        return TextReward(replace(self.loaded, head=_Spread(self.loaded.head)), format=self.format,
                          batch_tokens=self.budget.tokens, share=self.share, name=f"sigma({self.name})")

    # --- as a Reward ---------------------------------------------------------------------------------------

    @property
    def reads(self) -> Reads:
        return Reads()

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens):
            raise BadInput("episodes", expected="Tokens (see plaudit.core.tokens.of_texts)",
                           received=type(episodes).__name__)
        by_token = self.pays != "end"
        if by_token or not {"prompt", "completion"} <= set(episodes.columns):
            rows = _rows_of_ids(episodes, self.format.tokenizer)
            scored = self._numbers(rows, by_beginning([row.ids for row in rows]), by_token)
            return _as_score(scored, episodes, self.pays)
        scored = self.rows(episodes.columns["prompt"], episodes.columns["completion"])
        return _as_score(scored, episodes, self.pays)

    # --- texts ---------------------------------------------------------------------------------------------

    def score_texts(self, prompts: Sequence[Any], completions: Sequence[Any], *, members: bool = False,
                    progress: Progress | None = None) -> Float[Tensor, "..."]:
        """The scores [N] of completions (NaN where unknown), or those of each member [N, H]."""
        rows = self.rows(prompts, completions, progress=progress)
        if not members:
            return torch.tensor([math.nan if r.value is None else r.value for r in rows])
        H = max((len(r.members) for r in rows), default=1) or 1
        return torch.tensor([[math.nan] * H if r.value is None else list(r.members or (r.value,)) for r in rows])

    def rows(self, prompts: Sequence[Any], completions: Sequence[Any], *, per_token: bool = False, raw: bool = False,
             progress: Progress | None = None) -> list[Scored]:
        """What is known of each completion; one that cannot be read is unknown and says why.

        Args:
            prompts: Texts or conversations.
            completions: Texts or conversations.
            per_token: Also the head's number at each token of the completion.
            raw: The completions are whole texts, template included.
            progress: Called with the number of rows after each batch.
        """
        encoded = encode_rows(self.format, prompts, completions, seam=per_token, raw=raw, pair=self._pairs)
        families = by_beginning([row.ids for row in encoded]) if raw else [_key(p) for p in prompts]
        return self._numbers(encoded, families, per_token, progress=progress)

    @torch.inference_mode()
    def _numbers(self, rows: Sequence[Row], families: Sequence[Hashable], per_token: bool, *,
                 progress: Progress | None = None) -> list[Scored]:
        good = [i for i, row in enumerate(rows) if not row.why]
        out = [Scored(value=None, why=row.why) for row in rows]
        if progress is not None and len(good) < len(rows):
            progress(len(rows) - len(good))
        encoder = self._prepared()
        family = [families[i] for i in good]

        def work(batch: list[int]) -> list[Scored]:
            chosen = [rows[good[i]] for i in batch]
            if self.loaded.head is None:
                return _scored(whole_scores(self.loaded, chosen).cpu(), chosen)
            made = encoder([r.ids for r in chosen], [family[i] for i in batch]).to(self.device)
            if per_token:
                every = forward.token_scores(self.loaded.backbone, self.loaded.head, made)
                last = torch.stack([x[-1] for x in every]).float().cpu()
                return _scored(last, chosen, [x.float().mean(-1).cpu() for x in every])
            return _scored(forward.scores(self.loaded.backbone, self.loaded.head, made).float().cpu(), chosen)

        found = run(work, [len(rows[i].ids) for i in good], family, budget=self.budget, padded=not self.packs,
                    progress=progress, failed=lambda why: Scored(value=None, why=why))
        for i, one in zip(good, found, strict=True):
            out[i] = replace(one, length=len(rows[i].ids), cut=rows[i].cut)
        return out

    @property
    def packs(self) -> bool:
        """Whether prompts are shared and rows packed."""
        self._prepared()
        return getattr(self.loaded.backbone.config, "_attn_implementation", "") == attention.NAME

    @property
    def _pairs(self) -> bool:
        """Whether the model reads a prompt and its completion as two segments, as encoders do."""
        tokenizer = self.format.tokenizer
        return self.loaded.head is None and tokenizer.sep_token_id is not None \
            and not getattr(tokenizer, "chat_template", None)

    def _prepared(self) -> forward.Encoder:
        """Finds out once whether the model reads packed rows."""
        if self._encoder is None:
            pad_id = int(self.format.tokenizer.pad_token_id)
            self._encoder = forward.prepare(self.loaded.backbone, max_length=self.format.max_length, pad_id=pad_id,
                                            packing=self.share and self.loaded.head is not None)
        return self._encoder


def by_beginning(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Families of sequences that have at least half of the shorter one in common from the beginning.

    Example:
        >>> by_beginning([[1, 2, 3, 4], [7, 8], [1, 2, 3, 9, 9]])
        [0, 1, 0]
    """
    out = [0] * len(sequences)
    first: Sequence[int] | None = None
    number = -1
    for i in sorted(range(len(sequences)), key=lambda i: (list(sequences[i]), i)):
        mine = sequences[i]
        if first is None or not mine or not first or _common(first, mine) * 2 < min(len(first), len(mine)):
            number, first = number + 1, mine
        out[i] = number
    names = {n: k for k, n in enumerate(dict.fromkeys(out))}
    return [names[n] for n in out]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _key(prompt: Any) -> Hashable:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)


class _Spread(torch.nn.Module):
    """A Gaussian head read for how unsure each member is."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, states: Tensor) -> Tensor:
        return self.head(states)

    def members(self, raw: Tensor) -> Tensor:
        return self.head.std(raw)


def _load(model: str | Path, *, device: Any, dtype: Any, head: Fold) -> tuple[Loaded, ChatFormat | None]:
    """A folder of ours in its full form (its probe set is scored), or any classifier."""
    if not saving.is_saved(model):
        return load_classifier(model, device=device, dtype=dtype, head=head), None
    if head is not None:
        raise BadInput("head", expected="None for a model that plaudit saved: it knows its head", received=head)
    where = torch.device(check_device(device or "cpu"))
    dtype = dtype or (torch.float32 if where.type == "cpu" else None)
    backbone, ours, tokenizer, format, _ = saving.load(model, device=where, dtype=dtype)
    return Loaded(backbone, ours, tokenizer, Path(model).resolve().name), format


def _longest(loaded: Loaded) -> int | None:
    config, tokenizer = loaded.backbone.config, loaded.tokenizer
    known = [n for n in (getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None))
             if isinstance(n, int) and 0 < n < 10_000_000]
    return min(known, default=None)


def _rows_of_ids(episodes: Tokens, tokenizer: Any) -> list[Row]:
    """What the model reads, where the ids are given: they have to be its own."""
    ids, mask = episodes.sequence_ids.cpu(), episodes.sequence_mask.cpu()
    start = [0] * episodes.B if episodes.prompt_mask is None else episodes.prompt_mask.sum(-1).tolist()
    texts = episodes.columns.get("completion_text")
    rows: list[Row] = []
    for b in range(episodes.B):
        row = Row(ids[b][mask[b]].tolist(), start=int(start[b]))
        if not row.ids:
            row = Row([], why="there are no tokens")
        elif max(row.ids) >= len(tokenizer) or (texts is not None and not _says(tokenizer, row, str(texts[b]))):
            row = Row([], why="the steps of these episodes are not tokens of this model")
        rows.append(row)
    return rows


def _says(tokenizer: Any, row: Row, text: str) -> bool:
    """Whether the ids of the completion are its text, special tokens and blanks at the ends aside."""
    said = tokenizer.decode(row.ids[row.start:], skip_special_tokens=True)
    return text.strip() in said or said.strip() in text


def _scored(last_MH: Tensor, rows: Sequence[Row], tokens: Sequence[Tensor] | None = None) -> list[Scored]:
    out: list[Scored] = []
    for i, (members, row) in enumerate(zip(last_MH.tolist(), rows, strict=True)):
        value = sum(members) / len(members)
        if not all(map(math.isfinite, members)):
            out.append(Scored(value=None, why=f"the model gave {value}"))
            continue
        out.append(Scored(value=value, members=tuple(members) if len(members) > 1 else (),
                          tokens=None if tokens is None else tuple(tokens[i][row.start:].tolist())))
    return out


def _as_score(rows: Sequence[Scored], episodes: Tokens, pays: Pays) -> Score:
    """Numbers at the last step, or one for each."""
    shape = episodes.mask.shape
    H = max((len(r.members) for r in rows), default=0) if pays == "end" else 0
    value, members = torch.zeros(shape), torch.zeros((H, *shape)) if H > 1 else None
    why: dict[str, Tensor] = {}
    mask, last = episodes.mask.cpu(), episodes.last.tolist()
    for b, row in enumerate(rows):
        if row.value is None:
            value[b, last[b]] = torch.nan
            why.setdefault(row.why, torch.zeros(shape, dtype=torch.bool))[b, last[b]] = True
        elif pays == "end":
            value[b, last[b]] = row.value
            if members is not None:
                members[:, b, last[b]] = torch.tensor(row.members)
        else:
            each = torch.tensor(row.tokens or ())
            value[b, mask[b]] = each if pays == "token" else torch.diff(each, prepend=torch.zeros(1))
    return Score.of(value.to(episodes.device), mask=episodes.mask,
                    members=None if members is None else members.to(episodes.device),
                    why={reason: where.to(episodes.device) for reason, where in why.items()})
