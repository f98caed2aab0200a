"""Follow-up likelihood as reward: whether a response makes the next words of a satisfied user likelier.

With l(f | c, y) = (1 / |f|) sum_t log p(f_t | template(c, y), f_<t), a category scores the mean of l over its positive
follow-ups less the mean over its negative ones, and the reward is the mean over categories (Zhang et al. 2024,
arXiv 2409.13948, section 3); the model is frozen. The log-softmax is taken at the token before each f_t; the released
code takes unnormalised logits of one position, unshifted, which measures something else.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.chat import ChatFormat
from plaudit.core.checkpoint import write_json, write_text
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Reward, describe_failure
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens
from plaudit.feedback.records import Preference
from plaudit.learn.text.batches import Budget, run
from plaudit.learn.text.follow_ups import FollowUps, Use, category_scores, check_use
from plaudit.learn.text.likelihood import LanguageModel
from plaudit.learn.text.loading import FOLLOW_UP, NOT_A_CLASSIFIER, quiet
from plaudit.learn.text.scored import Scored
from plaudit.learn.text.templates import DIALOGUE
from plaudit.learn.text.turns import OPENING, NextTurn, Turn

FILE = FOLLOW_UP
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """l(f | c, y) of N responses and F follow-ups; NaN where it is unknown."""

    mean_NF: Float[Tensor, "N F"]
    """Nats a token, in the order of `FollowUps.texts`."""
    response_N: Float[Tensor, "N"] | None
    """The mean log-probability of the response's own tokens, where it was asked for."""
    why: tuple[str, ...]
    """Why nothing is known of a row; empty where all is."""
    length: tuple[int, ...]
    """Tokens that were computed for each row."""
    cut: tuple[int, ...]
    """Tokens that did not fit and were cut off on the left."""


class FollowUpReward(Reward):
    """Pays a response, at its last token, the likelihood of satisfied follow-ups less that of dissatisfied ones.

    Its terms are the categories. It reads `Tokens` with the columns `prompt` and `completion`. It is a language model
    and no classifier: there is no sequence-classification form.

    Args:
        model: The language model.
        follow_ups: What users may say next.
        use: The difference, or one side alone; a side alone pays fluency that has nothing to do with the response.
        category: One category alone; None is the mean of all. `best_of_categories` chooses on held-out pairs.
        calibrate: A generic reply whose score after the same prompt is subtracted: prompts become comparable.
        swapped: Whether the model was tuned to give feedback as the assistant (`fit_follow_up`).
        opening: The first turn where it was.
        max_length: The most tokens of a conversation with its follow-up (what the model was made for).
        truncation: `left` cuts the oldest tokens and keeps the response, `refuse` leaves what is too long unknown.
        batch_tokens: The tokens of a batch, or `auto`.
        name: How it is called in logs.

    Raises:
        BadInput: for a category or a use that there is not.
    """

    def __init__(self, model: LanguageModel, *, follow_ups: FollowUps | None = None, use: Use | str = "difference",
                 category: str | None = None, calibrate: str | None = None, swapped: bool = False,
                 opening: str = OPENING, max_length: int | None = None,
                 truncation: Literal["left", "refuse"] | str = "left", batch_tokens: int | str = "auto",
                 name: str = "follow-up") -> None:
        if truncation not in ("left", "refuse"):
            raise BadInput("truncation", expected="left, as the response is kept, or refuse", received=truncation)
        if calibrate is not None and not calibrate.strip():
            raise BadInput("calibrate", expected="a generic reply such as 'Okay.'", received=calibrate)
        if not getattr(model.tokenizer, "chat_template", None):
            model.tokenizer.chat_template = DIALOGUE
        longest = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
        self.model, self.follow_ups = model, follow_ups or FollowUps.load()
        self.format = ChatFormat(model.tokenizer, max_length=max_length or longest, as_chat=True,
                                 truncation="refuse" if truncation == "refuse" else "left")
        self.turn = NextTurn(self.format, swapped=swapped, opening=opening)
        self.calibrate, self.name = calibrate, name
        self.needs = Needs(time="episode")
        self.budget = Budget.of(batch_tokens, device=model.device)
        self.source: dict[str, Any] | None = None
        """Where it was loaded from, and how."""
        self.use: Use = "difference"
        self.category: str | None = None
        self._set(use, category)

    @staticmethod
    def load(model: str | Path, *, follow_ups: FollowUps | str | Path | None = None,
             device: str | torch.device | None = None, dtype: torch.dtype | None = None, share: bool = True,
             **options: Any) -> FollowUpReward:
        """A folder that `save` or `fit_follow_up` wrote, or any causal language model.

        Args:
            model: The folder, or a name on the hub.
            follow_ups: Follow-ups, or their file; by default those that were saved, or the packaged ones.
            device: Where it computes (`cpu`).
            dtype: In which precision.
            share: Whether conversations are computed once for all their follow-ups.
            options: Of `FollowUpReward`.

        Raises:
            BadInput: for a folder that holds no language model.

        Example:
            >>> FollowUpReward.load("no/such/folder/here")
            Traceback (most recent call last):
            plaudit.core.errors.BadInput: model: expected a folder that exists, or a name on the hub, ...
        """
        kept = _kept(Path(model))
        if follow_ups is None and "follow_ups" in kept:
            follow_ups = FollowUps.of(kept["follow_ups"])
        if not isinstance(follow_ups, FollowUps):
            follow_ups = FollowUps.load(follow_ups)
        said = {**{k: v for k, v in kept.get("options", {}).items() if v is not None}, **options}
        language = LanguageModel.load(model, device=device, dtype=dtype, share=share,
                                      max_length=said.get("max_length"))
        made = FollowUpReward(language, follow_ups=follow_ups, **{"name": language.name, **said})
        made.source = {"model": str(Path(model).resolve() if Path(model).exists() else model), "share": share,
                       "device": None if device is None else str(device),
                       "dtype": None if dtype is None else str(dtype).removeprefix("torch.")}
        return made

    def using(self, *, use: Use | str | None = None, category: str | None = None) -> FollowUpReward:
        """The same model and follow-ups, read otherwise; category None is the mean of all."""
        made = copy.copy(self)
        made._set(use or self.use, category)
        return made

    def _set(self, use: Use | str, category: str | None) -> None:
        chosen = check_use(use)
        if category is not None:
            self.follow_ups.of_categories([category])
        self.use, self.category = chosen, category

    @property
    def categories(self) -> tuple[str, ...]:
        """The terms."""
        return tuple(self.follow_ups.banks) if self.category is None else (self.category,)

    # --- numbers ---------------------------------------------------------------------------------------------

    def likelihoods(self, prompts: Sequence[Any], completions: Sequence[Any], *, responses: bool = False,
                    progress: Progress | None = None) -> Likelihoods:
        """l(f | c, y) of every follow-up, each conversation computed once.

        Args:
            prompts: Texts, messages, or utterances that alternate and end with the user's.
            completions: Texts, or messages of the assistant.
            responses: Also the mean log-probability of the response's own tokens.
            progress: Called with the number of rows after each batch.
        """
        texts = self.follow_ups.texts
        turns: list[Turn | str] = []
        for prompt, completion in zip(prompts, completions, strict=True):
            try:
                turns.append(self.turn.encode(prompt, completion, texts, find_response=responses))
            except (PlauditError, TypeError, AttributeError, KeyError) as error:
                turns.append(describe_failure("the conversation", error))
        good = [i for i, turn in enumerate(turns) if isinstance(turn, Turn)]
        known = [turn for turn in turns if isinstance(turn, Turn)]
        if progress is not None and len(good) < len(turns):
            progress(len(turns) - len(good))
        empty = [math.nan] * (len(texts) + 1)
        found = run(lambda rows: self._means([known[i] for i in rows]), [turn.cost for turn in known],
                    list(range(len(known))), budget=self.budget, padded=False, progress=progress,
                    failed=lambda why: (empty, why))
        table = torch.full((len(turns), len(texts) + 1), torch.nan, dtype=torch.float64)
        why = ["" if isinstance(turn, Turn) else turn for turn in turns]
        for i, (row, reason) in zip(good, found, strict=True):
            table[i], why[i] = torch.tensor(row, dtype=torch.float64), reason
        return Likelihoods(table[:, :-1], table[:, -1] if responses else None, tuple(why),
                           tuple(turn.cost if isinstance(turn, Turn) else 0 for turn in turns),
                           tuple(turn.cut if isinstance(turn, Turn) else 0 for turn in turns))

    def _means(self, turns: Sequence[Turn]) -> list[tuple[list[float], str]]:
        """The means of a batch of conversations, that of the response last."""
        sequences = [ids for turn in turns for ids in turn.ids]
        family = [n for n, turn in enumerate(turns) for _ in turn.ids]
        places: list[list[int]] = []
        for turn in turns:
            own = list(range(*turn.response)) if turn.response else []
            for k, (ids, start) in enumerate(zip(turn.ids, turn.start, strict=True)):
                places.append([*(own if k == 0 else []), *range(start, len(ids))])
        found = iter(self.model.log_probs(sequences, places, family))
        out: list[tuple[list[float], str]] = []
        for turn in turns:
            said = [next(found).double() for _ in turn.ids]
            own = turn.response[1] - turn.response[0] if turn.response else 0
            response = float(said[0][:own].mean()) if own else math.nan
            means = [float((p[own:] if k == 0 else p).mean()) for k, p in enumerate(said)]
            bad = next((text for text, m in zip(self.follow_ups.texts, means, strict=True) if not math.isfinite(m)), "")
            out.append(([*means, response], f"the log-probability of {bad!r} is not finite" if bad else ""))
        return out

    def scores(self, prompts: Sequence[Any], completions: Sequence[Any], *,
               progress: Progress | None = None) -> tuple[Float[Tensor, "N C"], Likelihoods]:
        """The category scores, calibrated where that is asked for; NaN where they are unknown."""
        said = self.likelihoods(prompts, completions, progress=progress)
        follow_ups = self.follow_ups
        value = category_scores(said.mean_NF, follow_ups, self.use)
        if self.calibrate is not None:
            asked = {_key(p): p for p in prompts}
            generic = self.likelihoods(list(asked.values()), [self.calibrate] * len(asked))
            less = dict(zip(asked, category_scores(generic.mean_NF, follow_ups, self.use), strict=True))
            value = value - torch.stack([less[_key(p)] for p in prompts]) if len(prompts) else value
            why = dict(zip(asked, generic.why, strict=True))
            said = replace(said, why=tuple(w or (f"the generic reply: {why[_key(p)]}" if why[_key(p)] else "")
                                           for w, p in zip(said.why, prompts, strict=True)))
        columns = [list(follow_ups.banks).index(name) for name in self.categories]
        value = value[:, columns]
        unknown = torch.tensor([bool(w) for w in said.why], dtype=torch.bool)
        return torch.where(unknown[:, None], torch.nan, value), said

    # --- as a Reward -----------------------------------------------------------------------------------------

    @property
    def reads(self) -> Reads:
        return Reads()

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens) or not {"prompt", "completion"} <= set(episodes.columns):
            raise BadInput("episodes", expected="Tokens with texts (see plaudit.core.tokens.of_texts)",
                           received=type(episodes).__name__)
        value_BC, said = self.scores(episodes.columns["prompt"], episodes.columns["completion"])
        last = torch.nn.functional.one_hot(episodes.last.cpu(), episodes.T).bool()
        why = {reason: torch.tensor([w == reason for w in said.why])[:, None] & last
               for reason in dict.fromkeys(said.why) if reason}
        paid = [torch.where(last, column.float()[:, None], 0.0).to(episodes.device) for column in value_BC.T]
        share = 1 / len(self.categories)
        return Score.of(torch.stack(paid).mean(0), mask=episodes.mask, weights=dict.fromkeys(self.categories, share),
                        terms=dict(zip(self.categories, paid, strict=True)),
                        why={reason: where.to(episodes.device) for reason, where in why.items()})

    def rows(self, prompts: Sequence[Any], completions: Sequence[Any], *, per_token: bool = False, raw: bool = False,
             progress: Progress | None = None) -> list[Scored]:
        """What is known of each completion; whole texts (`raw`) are unknown, as the response is not told apart."""
        if raw:
            return [Scored(value=None, why="follow-ups need the prompt and the response apart") for _ in completions]
        value_NC, said = self.scores(prompts, completions, progress=progress)
        out: list[Scored] = []
        for value, why, length, cut in zip(value_NC.mean(-1).tolist(), said.why, said.length, said.cut, strict=True):
            known = math.isfinite(value)
            out.append(Scored(value=value if known else None, tokens=(value,) if per_token and known else None,
                              length=length, cut=cut, why=why))
        return out

    def score_texts(self, prompts: Sequence[Any], completions: Sequence[Any], *,
                    progress: Progress | None = None) -> Float[Tensor, "N"]:
        """The rewards; NaN where unknown."""
        return self.scores(prompts, completions, progress=progress)[0].mean(-1)

    # --- files -----------------------------------------------------------------------------------------------

    def options(self) -> dict[str, Any]:
        """JSON: how it is read, without the model."""
        return {"use": self.use, "category": self.category, "calibrate": self.calibrate, "name": self.name,
                "swapped": self.turn.swapped, "opening": self.turn.opening, "max_length": self.format.max_length,
                "truncation": self.format.truncation}

    def save(self, folder: str | Path, *, about: Mapping[str, Any] | None = None) -> Path:
        """Writes model, tokenizer, follow-ups and options as a folder that `load` reads.

        The README of the folder says what the folder is not: a sequence classifier. `about` is kept with it (JSON).
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).unlink(missing_ok=True)  # the mark of a whole folder goes first and comes last
        with quiet():
            self.model.model.save_pretrained(str(folder))
            self.model.tokenizer.save_pretrained(str(folder))
        write_text(folder / "README.md", f"# {self.name}\n\nA follow-up likelihood reward. {NOT_A_CLASSIFIER}\n")
        write_json(folder / FILE, {"follow_ups": self.follow_ups.to_json(), "options": self.options(),
                                   "sequence_classification": False, "why_not": NOT_A_CLASSIFIER,
                                   "training": None if about is None else dict(about)})
        return folder

    def spec(self) -> dict[str, Any]:
        """JSON, for `save_reward`: the folder and how it is read; the weights stay where they are.

        Raises:
            Unsupported: for a model that was not loaded from a folder.
        """
        if self.source is None:
            raise Unsupported(f"{self.name} was not loaded from a folder; save it and load it from there")
        return {**self.source, "follow_ups": self.follow_ups.to_json(), "options": self.options()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], device: str | None = None) -> FollowUpReward:
        """The inverse of `spec`, on another device if one is named."""
        given = dict(spec)
        dtype = given.pop("dtype")
        return FollowUpReward.load(given["model"], follow_ups=FollowUps.of(given["follow_ups"]), share=given["share"],
                                   device=device or given["device"],
                                   dtype=None if dtype is None else getattr(torch, dtype), **given["options"])

    def fingerprint(self) -> list[Any]:
        """What changes when a number may: some of the weights, the follow-ups and the options."""
        digest = hashlib.sha256()
        for name, x in self.model.model.state_dict().items():
            flat = x.detach().flatten()
            digest.update(f"{name}{list(x.shape)}{x.dtype}".encode())
            digest.update(flat[:: max(1, flat.numel() // 64)].float().cpu().numpy().tobytes())
        return [digest.hexdigest()[:16], self.follow_ups.digest, self.options(), self.model.device.type]


def is_follow_up(folder: str | Path) -> bool:
    """Whether this is a folder that `FollowUpReward.save` wrote."""
    return (Path(folder) / FILE).is_file()


def _kept(folder: Path) -> dict[str, Any]:
    if not is_follow_up(folder):
        return {}
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput("model", expected=f"a {FILE} that plaudit wrote", received=f"{folder} ({error})") from None


def _key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, default=str)


# --- choosing what is read --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen:
    """What held-out pairs say of the ways to read a reward."""

    use: Use
    category: str | None
    """The best; None is the mean of all categories."""
    accuracy: Mapping[str, Mapping[str, float]]
    """By use and category (`all` for the mean); a tie counts half."""


def best_of_categories(reward: FollowUpReward, records: Sequence[Preference], *,
                       uses: Sequence[Use] = ("difference",), progress: Progress | None = None) -> Chosen:
    """Which category, or the mean of all, ranks held-out pairs best; of equal ones the mean of all wins.

    Args:
        reward: Whose likelihoods are read; each text is computed once.
        records: Pairs of texts with a label, apart from those it will be tested on.
        uses: Differences, and one side alone.
        progress: Called with the number of texts after each batch.

    Raises:
        BadInput: when no pair is decided and known.
    """
    decided = [r for r in records if len(r.options) == 2 and r.label not in (None, 0.5)]
    said = reward.likelihoods([r.context for r in decided for _ in r.options],
                              [o for r in decided for o in r.options], progress=progress)
    first = np.array([float(r.label or 0.0) > 0.5 for r in decided])
    found: dict[str, dict[str, float]] = {}
    for use in uses:
        value_NC = category_scores(said.mean_NF, reward.follow_ups, use)
        columns = {"all": value_NC.mean(-1), **dict(zip(reward.follow_ups.banks, value_NC.T, strict=True))}
        gaps = {name: (x[0::2] - x[1::2]).numpy() for name, x in columns.items()}
        known = np.isfinite(gaps["all"])
        if not known.any():
            raise BadInput("records", expected="a decided pair whose scores are known", received=len(records))
        found[use] = {name: float(np.mean(np.where(gap == 0, 0.5, (gap > 0) == first)[known]))
                      for name, gap in gaps.items()}
    ways: list[tuple[Use, str]] = [(u, n) for u in uses for n in found[u]]
    use, name = max(ways, key=lambda way: found[way[0]][way[1]])
    return Chosen(use, None if name == "all" else name, found)
