"""Files of texts, scored in windows: larger than memory, in their order, and to the same bytes after any kill.

A window of rows is read, scored in batches of one length, and appended; then the place is written down. What a killed
run had written beyond that place is cut off, and the window is scored again. Windows have the same rows in every run,
so the batches, and with them the last bit of every number, are the same.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import write_json
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.reward import Reward
from plaudit.core.saving import reward_spec
from plaudit.core.tokens import is_unicode
from plaudit.feedback.text.dialects import DIALECTS
from plaudit.feedback.text.formats import detect
from plaudit.feedback.text.sources import rows_of
from plaudit.learn.text.reward import TextReward
from plaudit.learn.text.scored import Scored
from plaudit.learn.text.scorers import RewardScorer, Scorer, as_scorer, reads_of
from plaudit.specify.text.columns import as_columns, check_reads, said_of

WINDOW = 1024
_ANSWERS = ("completion", "response", "completions", "messages")
_REASONS = 1000
"""So many different reasons are counted, as some hold words of their row."""


@dataclass(frozen=True)
class Done:
    """What `score_file` did."""

    path: Path
    rows: int
    """All rows of the file."""
    before: int
    """Those that an earlier run had scored."""
    texts: int
    """Completions that this run scored."""
    unknown: int
    """Of these, without a score."""
    cut: int
    """Of these, longer than the model reads."""
    tokens: int
    reasons: Mapping[str, int] = field(default_factory=dict[str, int])
    """How often each reason for an unknown score was given."""


@dataclass
class _Place:
    """Where a run is: what is written next to the file."""

    what: Mapping[str, Any]
    rows: int = 0
    size: int = 0
    batch_tokens: int | None = None
    texts: int = 0
    unknown: int = 0
    cut: int = 0
    tokens: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, scored: Sequence[Scored]) -> None:
        """Adds some texts."""
        self.texts += len(scored)
        self.unknown += sum(not s.known for s in scored)
        self.cut += sum(s.cut > 0 for s in scored)
        self.tokens += sum(s.length for s in scored)
        for why in (s.why or "no reason" for s in scored if not s.known):
            if why in self.reasons or len(self.reasons) < _REASONS:
                self.reasons[why] = self.reasons.get(why, 0) + 1


def score_file(model: Any, source: str | Path, out: str | Path, *, column: str = "scores", members: bool = False,
               per_token: bool = False, window: int = WINDOW, split: str | None = None, fresh: bool = False,
               progress: Callable[[int], None] | None = None) -> Done:
    """Scores every completion of a file; each row is written with a list of scores, None where one is unknown.

    Args:
        model: A TextReward, or any other Reward of texts.
        source: JSONL, JSON or Parquet: rows of `prompt` and `completion`, `completions` or `response`, of `messages`,
            or of any format that `read_pairs` knows (then the scores stand in the order of the record's options: the
            chosen ones first).
        out: A new `.jsonl` file. Until it is whole it is called `OUT.part`; where one is there, the run goes on.
        column: The name of the scores; `COLUMN_why` has the reasons where some are unknown, `COLUMN_members` and
            `COLUMN_tokens` what they say.
        members: Also what each member of an ensemble said.
        per_token: Also a number for each token.
        window: How many rows are held at once.
        split: Which split of the source.
        fresh: Begin again, whatever is there.
        progress: Called with the number of rows that are done, after each batch.

    Raises:
        BadInput: before any work, when a file cannot be used or the part that is there is of another model, file or
            option; naming the row, when one has no texts.
    """
    out = Path(out)
    part, state = out.with_name(out.name + ".part"), out.with_name(out.name + ".place.json")
    _check(source, out, window, fresh)
    place = _resume(part, state, {
        "source": _fingerprint(Path(source)), "model": model_fingerprint(model), "column": column, "members": members,
        "per_token": per_token, "window": window, "split": split}, fresh=fresh)
    scorer, before = as_scorer(model), place.rows
    budget = getattr(model, "budget", None)
    if budget is not None and place.batch_tokens is not None:
        budget.tokens = place.batch_tokens
    if progress is not None and before:
        progress(before)
    rows = itertools.islice(rows_of(str(source), split=split), before, None)
    with part.open("r+b" if part.exists() else "w+b") as file:
        file.truncate(place.size)
        file.seek(place.size)
        try:
            for chunk in _chunks(rows, window):
                lines = _window(scorer, chunk, place, column, members, per_token, progress)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
                place.rows, place.size = place.rows + len(chunk), place.size + len(lines)
                place.batch_tokens = None if budget is None else budget.tokens
                write_json(state, place.__dict__)
        except BadInput as error:
            raise _at_fault(error, part, place) from error
    os.replace(part, out)
    state.unlink(missing_ok=True)
    return Done(out, place.rows, before, place.texts, place.unknown, place.cut, place.tokens, place.reasons)


def _at_fault(error: BadInput, part: Path, place: _Place) -> BadInput:
    """The error of a row, with what became of those before it; a part without a row is taken away."""
    if not place.rows:
        part.unlink(missing_ok=True)
        return error
    left = f"the {place.rows:,} rows before are in {part}; --fresh (fresh=True) begins again with a mended file"
    return BadInput(error.name, expected=error.expected, received=error.received,
                    fix=f"{error.fix}; {left}" if error.fix else left)


def texts_of(row: Mapping[str, Any], place: str = "row") -> tuple[Any, list[Any]]:
    """The prompt of a row and its completions.

    Raises:
        BadInput: when the row has none.

    Example:
        >>> texts_of({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"})
        ('2 + 2?', ['4', '5'])
        >>> texts_of({"messages": [{"role": "user", "content": "hm"}, {"role": "assistant", "content": "yes"}]})
        ([{'role': 'user', 'content': 'hm'}], [[{'role': 'assistant', 'content': 'yes'}]])
    """
    single = next((row[k] for k in ("completion", "response") if row.get(k) is not None), None)
    if single is not None and "prompt" in row:
        return _spoken(row["prompt"], place, "prompt"), [_spoken(single, place, "completion")]
    several = row.get("completions")
    if isinstance(several, list) and several and "prompt" in row and not isinstance(several[0], Mapping):
        return _spoken(row["prompt"], place, "prompt"), [_spoken(c, place, "completions") for c in several]
    if isinstance(row.get("messages"), list) and len(row["messages"]) > 1 and "chosen" not in row:
        messages = _spoken(row["messages"], place, "messages")
        return messages[:-1], [messages[-1:]]
    try:
        record = DIALECTS[detect(row, place).name].of_rows([row])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        empty = next((k for k in _ANSWERS if k in row and not row[k]), None)
        if empty is not None:
            raise BadInput(place, expected=f"a text in {empty}", received=json.dumps(row[empty]),
                           fix="mend the row, or leave it out") from None
        if isinstance(error, BadInput) and error.name == place:
            raise
        raise BadInput(place, expected="a prompt with its completions", received=str(error)) from error
    return record.context, list(record.options)


def _spoken(value: Any, place: str, name: str) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(m, Mapping) for m in value)):
        return value
    raise BadInput(place, expected=f"a text or a list of messages in {name}", received=f"{value!r:.60}")


def _window(scorer: Scorer, chunk: Sequence[tuple[str, Mapping[str, Any]]], place: _Place, column: str, members: bool,
            per_token: bool, progress: Callable[[int], None] | None) -> bytes:
    """The lines of a window."""
    texts = [texts_of(row, where) for where, row in chunk]
    clash = next(((w, k) for w, row in chunk for k in row if k in (column, f"{column}_why")), None)
    if clash is not None:
        raise BadInput(clash[0], expected=f"no column {clash[1]}", received=f"one called {clash[1]}",
                       fix="name the scores otherwise (--column, column=)")
    prompts = [p for p, options in texts for _ in options]
    options = [o for _, several in texts for o in several]
    told = _Told(len(chunk), len(options), progress)
    reads = reads_of(scorer)
    said = [said_of(row, reads) for (_, row), (_, several) in zip(chunk, texts, strict=True) for _ in several]
    if not place.rows:
        check_reads(reads, {n for one in said for n in one}, has=dict.fromkeys(n for _, row in chunk for n in row))
    found = iter(_scored(scorer, prompts, options, said, told, per_token))
    lines: list[str] = []
    for (_, row), (_, several) in zip(chunk, texts, strict=True):
        mine = [next(found) for _ in several]
        place.count(mine)
        whole = {**row, **_columns(mine, column, members, per_token)}
        lines.append(json.dumps(whole, ensure_ascii=not is_unicode(whole)) + "\n")
    told.rest()
    return "".join(lines).encode()


def _scored(scorer: Scorer, prompts: Sequence[Any], options: Sequence[Any], said: Sequence[Mapping[str, Any]],
            told: _Told, per_token: bool) -> list[Scored]:
    """The scores of texts; what is no Unicode is unknown, unless a function is to say what it is worth."""
    if isinstance(scorer, RewardScorer):
        return scorer.rows(prompts, options, per_token=per_token, columns=as_columns(said), progress=told)
    good = [i for i, both in enumerate(zip(prompts, options, strict=True)) if all(map(is_unicode, both))]
    more: dict[str, Any] = {"progress": told} if isinstance(scorer, TextReward) else {}
    found = scorer.rows([prompts[i] for i in good], [options[i] for i in good], per_token=per_token, **more)
    out = [Scored(value=None, why="half a surrogate pair, which is no text") for _ in options]
    for i, one in zip(good, found, strict=True):
        out[i] = one
    return out


class _Told:
    """Progress in texts, told on in rows."""

    def __init__(self, rows: int, texts: int, progress: Callable[[int], None] | None) -> None:
        self.rows, self.texts, self.progress = rows, texts, progress
        self.done, self.told = 0, 0

    def __call__(self, texts: int) -> None:
        self.done += texts
        self._tell(self.rows * self.done // max(1, self.texts))

    def rest(self) -> None:
        """The window is done."""
        self._tell(self.rows)

    def _tell(self, rows: int) -> None:
        if self.progress is not None and rows > self.told:
            self.progress(rows - self.told)
            self.told = rows


def _columns(scored: Sequence[Scored], column: str, members: bool, per_token: bool) -> dict[str, Any]:
    out: dict[str, Any] = {column: [s.value for s in scored]}
    if any(not s.known for s in scored):
        out[f"{column}_why"] = [s.why or None for s in scored]
    if members:
        out[f"{column}_members"] = [list(s.members) for s in scored]
    if per_token:
        out[f"{column}_tokens"] = [None if s.tokens is None else list(s.tokens) for s in scored]
    return out


def _chunks(rows: Iterator[tuple[str, Mapping[str, Any]]], n: int) -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    while chunk := list(itertools.islice(rows, n)):
        yield chunk


# --- beginning and going on ------------------------------------------------------------------------------


def _check(source: str | Path, out: Path, window: int, fresh: bool) -> None:
    if window < 1:
        raise BadInput("window", expected="at least one row", received=window)
    if out.suffix not in (".jsonl", ".ndjson"):
        raise BadInput("out", expected="a file *.jsonl", received=str(out))
    if out.is_dir() or (out.parent.exists() and not out.parent.is_dir()):
        raise BadInput("out", expected="the name of a file", received=str(out))
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise BadInput("out", expected="another file than the source", received=str(out))
    if out.exists() and not fresh:
        raise BadInput("out", expected="a new file", received=f"{out}, which is there",
                       fix="choose another, or write it anew with fresh=True (--fresh)")
    if not Path(source).exists():
        raise BadInput("source", expected="a file or folder that exists", received=str(source))
    out.parent.mkdir(parents=True, exist_ok=True)


def _resume(part: Path, state: Path, what: Mapping[str, Any], *, fresh: bool) -> _Place:
    """The place of an earlier run, if there is one of the same model, file and options."""
    what = json.loads(json.dumps(what))
    if fresh or not state.exists() or not part.exists():
        part.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
        return _Place(what)
    try:
        place = _Place(**json.loads(state.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput("out", expected="a place that an earlier run wrote", received=f"{state} ({error})",
                       fix="begin again with fresh=True (--fresh)") from None
    other = [name for name in what if place.what.get(name) != what[name]]
    if other or part.stat().st_size < place.size:
        raise BadInput("out", expected="no part, or one of the same run", fix="begin again with fresh=True (--fresh)",
                       received=f"{part}, which has another {', '.join(other) or 'size than was written'}")
    return place


def _fingerprint(path: Path) -> Any:
    """What changes when a file does: all of its bytes, as scoring them takes far longer than reading them."""
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return [[f.name, f.stat().st_size, _digest(f)] for f in files]


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def model_fingerprint(model: Any) -> Any:
    """Of a reward model, some of its weights and its format; of any other reward, what it is made of.

    Of a function that is the file that it stands in, though not what that file imports.
    """
    if callable(getattr(model, "fingerprint", None)):
        return model.fingerprint()
    loaded, format = getattr(model, "loaded", None), getattr(model, "format", None)
    if loaded is None or format is None:
        made = _made_of(model) if isinstance(model, Reward) else ()
        return [type(model).__name__, getattr(model, "name", ""), *made]
    digest = hashlib.sha256()
    for module in (loaded.backbone, loaded.head):
        for name, x in ([] if module is None else module.state_dict().items()):
            flat = x.detach().flatten()
            digest.update(f"{name}{list(x.shape)}{x.dtype}".encode())
            digest.update(flat[:: max(1, flat.numel() // 64)].float().cpu().numpy().tobytes())
    return [digest.hexdigest()[:16], format.max_length, format.truncation, format.add_eos, format.as_chat,
            str(next(loaded.backbone.parameters()).device.type)]


def _made_of(reward: Reward) -> list[Any]:
    """How a reward is made, what it has learnt, and the same of its parts."""
    try:
        made = _essence(reward_spec(reward))
    except PlauditError:  # a lambda, say, cannot be found again; its file can be looked at
        fn = getattr(reward, "fn", None)
        file = getattr(sys.modules.get(getattr(fn, "__module__", "") or ""), "__file__", None)
        made = _digest(Path(file)) if file and Path(file).is_file() else None
    learnt = hashlib.sha256()
    _digest_state(reward.state_dict(), learnt)
    return [made, learnt.hexdigest()[:16], [model_fingerprint(child) for child in reward.children()]]


def _essence(spec: Any) -> Any:
    """A spec without where its files lie, without limits of time, which change no score, and without our own code."""
    if isinstance(spec, Mapping):
        target = str(spec.get("target", ""))
        code = [target.rpartition(":")[2], None if target.startswith("plaudit.") else spec.get("sha256")]
        left_out = ("pool", "time_limit_s", "target", "path", "sha256")
        return {**{k: _essence(v) for k, v in spec.items() if k not in left_out}, **({"code": code} if target else {})}
    return [_essence(v) for v in spec] if isinstance(spec, list | tuple) else spec


def _digest_state(state: Any, digest: Any) -> None:
    if isinstance(state, Mapping):
        for name in sorted(state, key=str):
            digest.update(f"{name}:".encode())
            _digest_state(state[name], digest)
    elif isinstance(state, list | tuple):
        for part in state:
            _digest_state(part, digest)
    elif hasattr(state, "detach"):
        digest.update(state.detach().flatten().double().cpu().numpy().tobytes())
    else:
        digest.update(repr(state).encode())
