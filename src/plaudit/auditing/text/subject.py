"""Recognises a text reward: a function in a file, a checkpoint folder, a URL, a saved reward, or an object in hand."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.auditing.text.context import Mode
from plaudit.auditing.text.items import PROMPTS, TextData
from plaudit.auditing.text.naming import TEXT_ARGUMENTS
from plaudit.core.consent import noted
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.naming import source_of
from plaudit.core.reward import Reward
from plaudit.core.saving import is_saved_reward, load_reward
from plaudit.core.targets import Target, file_hash, load_target, looks_like_target, refuse_bare_file
from plaudit.learn.text import follow_up_names as follow_up
from plaudit.specify.text.functions import PLURALS, TextFunction
from plaudit.specify.text.given import as_reward
from plaudit.specify.text.remote import RemoteReward

MOST_LITERALS = 40


@dataclass(frozen=True)
class TextSubject:
    """A text reward and where it comes from; has what a report reads of a `Subject`."""

    reward: Reward
    recognised: str
    name: str
    mode: Mode
    target: Target | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    task_spec: Mapping[str, Any] = field(default_factory=dict)
    literals: tuple[str, ...] = ()


def recognise(target: Any, *, time_limit_s: float | None = 10.0, trust: bool = False,
              device: str | None = None) -> TextSubject:
    """Finds out what text reward the user points at.

    Args:
        target: `file.py:name` or `module:name` of a function or a Reward; the folder of a reward model or of a saved
            reward; `http://...` of a server; or such an object itself.
        time_limit_s: Wall-clock limit of one call of a plain function.
        trust: Whether a saved reward may run code that has changed or lies elsewhere.
        device: Where a model that is loaded from files computes.

    Raises:
        BadInput: when it is nothing of the kind.

    Example:
        >>> recognise(lambda completion_text: 1.0).mode
        'verifier'
    """
    loaded: Target | None = None
    thing = target
    if isinstance(target, str | Path):
        text = str(target)
        if text.startswith(("http://", "https://")):
            return _remote(text)
        if follow_up.names(text):
            return TextSubject(follow_up.load(text, device=device), f"follow-up reward {text}", text, "model",
                               source={"model": text})
        if Path(text).is_dir() or is_saved_reward(text):
            return _folder(Path(text), trust=trust, device=device)
        refuse_bare_file("target", text)
        if not looks_like_target(text):
            raise BadInput("target", expected="file.py:name, a folder of a reward model, or a URL", received=text,
                           fix="name the function too, as in rewards.py:reward")
        loaded = load_target(text)
        thing = loaded.thing
    if isinstance(thing, type) or not (isinstance(thing, Reward) or callable(thing)):
        raise BadInput("target", expected="a function of texts or a Reward", received=type(thing).__name__)
    reward = as_reward(thing, time_limit_s=time_limit_s)
    if isinstance(reward, TextFunction) and reward is thing and reward.pool is None and reward.time_limit_s is None:
        reward = _limited(reward, time_limit_s)
    mode: Mode = "verifier" if isinstance(reward, TextFunction) else "model"
    word = "function" if mode == "verifier" else "reward"
    source = dict(noted(loaded)) if loaded else _source(thing)
    return TextSubject(reward, f"text {word} {reward.name}", loaded.text if loaded else reward.name, mode, loaded,
                       source, literals=literals_of(thing))


def _limited(reward: TextFunction, time_limit_s: float | None) -> TextFunction:
    """A copy with a time limit; the user's own object stays as it is."""
    import copy

    out = copy.copy(reward)
    out.time_limit_s = time_limit_s
    return out


def _source(thing: Any) -> dict[str, Any]:
    try:
        return dict(source_of(thing.fn if isinstance(thing, TextFunction) else thing, what="the reward"))
    except PlauditError:
        return {"object": getattr(thing, "name", getattr(thing, "__name__", type(thing).__name__))}


def _remote(url: str) -> TextSubject:
    remote = RemoteReward.at(url)
    remote.check()
    return of_server(remote, url)


def of_server(reward: RemoteReward, url: str, *, tokenizer: str | Path | None = None) -> TextSubject:
    """A reward behind a URL; its token stands nowhere."""
    return TextSubject(reward, f"reward model at {url} ({reward.kind})", url, "model",
                       source={"url": url, "kind": reward.kind, "tokenizer": str(tokenizer) if tokenizer else None})


def _folder(path: Path, *, trust: bool, device: str | None) -> TextSubject:
    if is_saved_reward(str(path)):
        reward = load_reward(str(path), trust=trust, device=device)
        mode: Mode = "verifier" if isinstance(reward, TextFunction) else "model"
        file = path / "reward.json" if path.is_dir() else path
        return TextSubject(reward, f"saved reward {reward.name}", str(path), mode,
                           source={"saved": str(file), "sha256": file_hash(file) if file.is_file() else None})
    if not (path / "config.json").is_file():
        raise BadInput("target", expected="a folder of a reward model (config.json and safetensors)",
                       received=f"{path}, without config.json")
    from plaudit.learn.text.reward import TextReward

    return TextSubject(TextReward.load(path, device=device), f"reward model in {path}", str(path), "model",
                       source={"model": str(path), "sha256": file_hash(path / "config.json")})


def check_columns(subject: TextSubject, data: TextData) -> None:
    """Refuses data that lack what a function asks for, before any work.

    Raises:
        BadInput: with the columns that there are.
    """
    if isinstance(subject.reward, RemoteReward) and subject.reward.wants_texts and \
            not all(isinstance(i.prompt, str) for i in data.items):
        raise BadInput("data", expected=f"prompts that are texts, for a server of the kind {subject.reward.kind}",
                       received=f"conversations in {data.name}",
                       fix="--tokenizer DIR: its chat template makes whole texts of them; or --suite sums")
    if not isinstance(subject.reward, TextFunction):
        return
    here = {k for i in data.items for k in i.columns} | {"prompt", "completion", "prompt_text", "completion_text",
                                                         "steps", *PLURALS, "trainer_state", "log_extra", "log_metric",
                                                         "environments"}
    column = subject.reward.columns
    lacking = [n for n in subject.reward.required if column.get(n, n) not in here and n != "completion_ids"]
    if lacking:
        raise BadInput("data", expected=f"the columns that {subject.reward.name} takes: {', '.join(lacking)}",
                       received=", ".join(sorted(here - set(PLURALS) - {"steps"} - set(_HANDED))),
                       fix="rename the columns of the data, or the arguments of the function")


_HANDED = ("trainer_state", "log_extra", "log_metric", "environments")


def of_collection(planted: Any) -> TextSubject:
    """A member of the flaw collection, known by its name."""
    reward = planted.flaw.reward(twin=planted.twin)
    word = "healthy" if planted.twin else "flaw"
    mode: Mode = "model" if planted.flaw.model else "verifier"
    fn = planted.flaw.healthy if planted.twin else planted.flaw.flawed
    return TextSubject(reward, f"{word} of the collection", f"{word}:{planted.name}", mode,
                       source={"planted": planted.name, "twin": planted.twin}, literals=literals_of(fn))


def literals_of(thing: Any) -> tuple[str, ...]:
    """Texts that stand in a function's own source, and in what it names: the first things a search tries.

    Example:
        >>> def pays(completion_text):
        ...     return float("therefore" in completion_text)
        >>> literals_of(pays)
        ('therefore',)
    """
    fn: Any = getattr(thing, "fn", thing)
    while hasattr(fn, "func"):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    if code is None:
        return ()
    found = [*_constants(code.co_consts)]
    for name in code.co_names:
        found += _constants((getattr(fn, "__globals__", {}).get(name),))
    doc = inspect.getdoc(fn) or ""
    words = [w for w in found if w.strip() and len(w) <= 60 and w not in doc and w not in _COLUMN_NAMES]
    return tuple(dict.fromkeys(words))[:MOST_LITERALS]


_COLUMN_NAMES = frozenset({*PROMPTS, *TEXT_ARGUMENTS, "content", "role", "utf-8"})


def _constants(values: Any) -> list[str]:
    out: list[str] = []
    for value in values:
        if isinstance(value, str):
            out.append(textwrap.dedent(value))
        elif isinstance(value, tuple | list | set | frozenset):
            out += _constants(value)
        elif isinstance(value, Mapping):
            out += _constants(value.keys())
        elif hasattr(value, "co_consts"):
            out += _constants(value.co_consts)
        elif hasattr(value, "pattern"):
            out += [value.pattern] if isinstance(value.pattern, str) else []
        elif isinstance(value, Callable) and hasattr(value, "__code__") and not isinstance(value, type):
            out += _constants(value.__code__.co_consts) if getattr(value, "__module__", "").startswith(
                "plaudit_target") else []
    return out
