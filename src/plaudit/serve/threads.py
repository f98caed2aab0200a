"""The threads that score: one for each model, so that a model that hangs holds up neither another nor the shutdown."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from plaudit.core.reward import Reward
from plaudit.specify.text.calling import parts_of

log = logging.getLogger(__name__)
P = ParamSpec("P")
Out = TypeVar("Out")
GRACE_S = 1.0
"""How long threads may take to end once nobody waits for their scores any more."""


class ScoringThread(Executor):
    """Calls one after the other, in a daemon thread: Python does not wait for it at the end of the process.

    Example:
        >>> thread = ScoringThread("sums")
        >>> thread.submit(sum, [1, 2]).result()
        3
        >>> thread.shutdown()
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"plaudit-scoring-{name}", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[P, Out], /, *args: P.args, **kwargs: P.kwargs) -> Future[Out]:
        """Queues a call."""
        future: Future[Out] = Future()
        self.calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the thread after the calls that wait."""
        self.calls.put(None)
        if wait:
            self._thread.join()

    def ended(self, within_s: float) -> bool:
        """Whether the thread, which was told to end, does so in that time."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self.calls.get()) is not None:
            future, work = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # handed to whoever waits, as concurrent.futures does
                future.set_exception(error)


def threads_for(models: Mapping[str, Any]) -> dict[str, ScoringThread]:
    """A thread for each model; models with a part in common share one, as nothing bears two callers by itself."""
    threads: dict[str, ScoringThread] = {}
    of_part: dict[int, ScoringThread] = {}
    for name, model in models.items():
        parts = [id(part) for part in parts_of(model)] if isinstance(model, Reward) else [id(model)]
        thread = next((of_part[part] for part in parts if part in of_part), None) or ScoringThread(name)
        of_part |= dict.fromkeys(parts, thread)
        threads[name] = thread
    return threads


def end(threads: Iterable[ScoringThread]) -> None:
    """Ends threads; one that is busy after a second (nobody waits for it any more) is left behind."""
    for thread in (several := set(threads)):
        thread.shutdown(wait=False)
    until = monotonic() + GRACE_S
    left = [thread.name for thread in several if not thread.ended(max(0.0, until - monotonic()))]
    if left:
        log.critical("left behind while scoring for nobody: %s", ", ".join(sorted(left)))
