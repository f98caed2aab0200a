"""The reward model that a user names: a folder, a name on the hub, a URL, a saved reward, or one in a file."""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from plaudit.core.errors import BadInput

ServerKind = Literal["plaudit", "openrlhf", "vllm", "rerank"]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is loaded."""

    device: str = "cpu"
    """Where it computes, such as cpu or cuda."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """In which precision; float32 on a CPU, that of the checkpoint elsewhere."""
    batch_tokens: int | None = None
    """Tokens that are scored together; by default what memory takes, halved where it runs out."""
    max_length: int | None = None
    """The most tokens of a text; by default what the model was made for."""
    truncation: Literal["left", "right", "refuse"] | None = None
    """Where a longer text is cut; refuse leaves it unknown."""
    kind: ServerKind | None = None
    """What a server behind a URL speaks; by default what the path says, else plaudit. Which of a server's models stands
    behind #; the bearer token comes from the variable PLAUDIT_TOKEN."""
    tokenizer: Path | None = None
    """For a server that takes whole texts: the folder of the tokenizer whose chat template makes them."""
    time_limit: float = 10.0
    """Seconds that one call of a function of file.py:name may take, in worker processes that are killed when they are
    late; 0 calls it in this process, without a limit."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run the functions of a saved reward also where their code has changed since, or lies outside this folder."""


def load_model(name: str, options: ModelOptions | None = None) -> Any:
    """The model as a Reward of texts.

    Raises:
        BadInput: when there is none of that name.
    """
    import torch

    from plaudit.core.reward import Reward
    from plaudit.core.saving import is_saved_reward, load_reward
    from plaudit.core.targets import load_target, looks_like_target, refuse_bare_file
    from plaudit.learn.text import follow_up_names as follow_up

    options = options or ModelOptions()
    if not 0 <= options.time_limit < math.inf:
        raise BadInput("--time-limit", expected="seconds, or 0 for none", received=options.time_limit)
    if name.startswith(("http://", "https://")):
        return load_remote(name, kind=options.kind, tokenizer=options.tokenizer)
    if options.kind is not None or options.tokenizer is not None:
        raise BadInput("--kind" if options.kind else "--tokenizer", expected="none beside a model that is no URL",
                       received=options.kind or str(options.tokenizer))
    if follow_up.names(name):
        return follow_up.load(name, device=options.device, dtype=options.dtype, max_length=options.max_length,
                              batch_tokens=options.batch_tokens or "auto", truncation=options.truncation)
    refuse_bare_file("--model", name)
    if looks_like_target(name):
        from plaudit.specify.text.given import as_reward, within_limits

        thing = load_target(name).thing
        if not isinstance(thing, Reward) and not callable(thing):
            raise BadInput("--model", expected="a Reward or a function", received=type(thing).__name__)
        return within_limits(as_reward(thing), options.time_limit) if options.time_limit else as_reward(thing)
    if is_saved_reward(name):
        return load_reward(name, trust=options.trust, device=options.device)
    from plaudit.learn.text.reward import TextReward

    dtype = None if options.dtype == "auto" else getattr(torch, options.dtype)
    return TextReward.load(name, device=options.device, dtype=dtype, batch_tokens=options.batch_tokens or "auto",
                           max_length=options.max_length, truncation=options.truncation)


def checkpoint(name: str) -> str | Path:
    """The folder, or the name on the hub, of a model to train; smollm2 is the packaged one.

    Raises:
        BadInput: for a folder that is missing, pickled or damaged.
    """
    from plaudit.learn.text.loading import check_folder

    if name == "smollm2" and not Path(name).exists():
        from plaudit.learn.text.models import smollm2

        return smollm2()
    check_folder(name)
    return name


def load_remote(url: str, *, kind: ServerKind | None, tokenizer: Path | None) -> Any:
    """The server behind a URL as a Reward, after it has answered once.

    Raises:
        BadInput: when nobody answers, or not as its kind does.
    """
    from plaudit.specify.text.remote import RemoteReward

    remote = RemoteReward.at(url, kind=kind, tokenizer=tokenizer)
    remote.check()
    return remote


def progress_bar(what: str) -> AbstractContextManager[Any]:
    """A function that counts rows: a bar on a terminal (stderr), elsewhere a line now and then."""
    from rich.console import Console

    console = Console(stderr=True)
    return _Bar(console, what) if console.is_terminal else Lines(what)


class Lines:
    """A line on stderr now and then, also while nothing gets done: the first after some seconds, then more rarely.

    Args:
        what: What is done.
        first_s: Seconds to the first line; the pauses double up to `last_s`.
        last_s: The longest pause.
    """

    def __init__(self, what: str, *, first_s: float = 10.0, last_s: float = 300.0) -> None:
        self.what, self.pause_s, self.last_s = what, first_s, last_s
        self.rows, self.said, self.began = 0, "0 rows", time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="plaudit-progress", daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self.add

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def add(self, rows: int) -> None:
        """Counts rows that are done."""
        self.rows += rows
        self.said = f"{self.rows:,} rows"

    def tell(self, share: float, words: str) -> None:
        """Takes the share that is done, and a few words."""
        self.said = f"{share:.0%}, {words}"

    def _tell(self) -> None:
        while not self._over.wait(self.pause_s):
            seconds = time.monotonic() - self.began
            print(f"{self.what}: {self.said} in {seconds:,.0f} s", file=sys.stderr, flush=True)
            self.pause_s = min(2 * self.pause_s, self.last_s)


class _Bar:
    """Rows done, and rows a second."""

    def __init__(self, console: Any, what: str) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.progress = Progress(SpinnerColumn(), TextColumn("{task.description}"),
                                 TextColumn("{task.completed:,.0f} rows, {task.speed:,.0f}/s"), TimeElapsedColumn(),
                                 console=console, transient=True)
        self.task = self.progress.add_task(what, total=None)

    def __enter__(self) -> Any:
        self.progress.start()
        return lambda n: self.progress.advance(self.task, n)

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()
