"""Ctrl-C ends the search and keeps the report; while the report is written it waits; code that hangs is cut off."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plaudit.auditing.asking import Event
    from plaudit.auditing.report.model import AuditReport

GRACE_S = 10.0


@contextmanager
def leaving(what: Callable[[], str]) -> Iterator[None]:
    """A Ctrl-C inside is told with what it leaves, looked up when it comes.

    Example:
        >>> try:
        ...     with leaving(lambda: "nothing was written"):
        ...         raise KeyboardInterrupt
        ... except KeyboardInterrupt as stop:
        ...     str(stop)
        'nothing was written'
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or what()) from None


class Interrupts:
    """Turns the first Ctrl-C (or SIGTERM) of a search into `KeyboardInterrupt`; one during the writing is noted.

    Where that was swallowed, the next event of the audit raises it again. While LLVM compiles it is not raised at
    all before that: its callbacks would swallow it, and print what they swallowed.

    Attributes:
        noted: Whether one came.
        writing: Whether the checks are done: from here on only a second one ends the program.
    """

    def __init__(self) -> None:
        self.noted = False
        self.writing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ring)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        again, self.noted = self.noted, True
        if not self.writing:
            if not _within(frame, "llvmlite"):
                raise KeyboardInterrupt
            return
        if again:
            raise KeyboardInterrupt
        print("writing the report; once more to drop it", file=sys.stderr)

    def __call__(self, event: Event) -> None:
        """Follows an audit's events."""
        if event.kind == "judging":
            self.writing, self.noted = True, False
        elif self.noted and not self.writing:
            raise KeyboardInterrupt


def _within(frame: FrameType | None, package: str) -> bool:
    """Whether code of a package is running."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == package:
            return True
        frame = frame.f_back
    return False


class Watchdog:
    """Ends an audit from which nothing has come for very long: its code hangs where no time limit reaches.

    First as Ctrl-C would; where the code swallows that too, the report of what is known is written from here,
    and the process ends. Native code that holds the interpreter stops this watchdog as well.

    Args:
        patience_s: How long nothing may come.
        save: Writes a partial report and returns where.
        grace_s: How long the interrupted audit may take to come back.
    """

    def __init__(self, *, patience_s: float, save: Callable[[AuditReport], Path], grace_s: float = GRACE_S) -> None:
        self.patience_s, self.grace_s, self.save = patience_s, grace_s, save
        self.fired = False
        self._last, self._stopped = time.monotonic(), threading.Event()
        self._so_far: Callable[[], AuditReport] | None = None

    def __enter__(self) -> Watchdog:
        self._last = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()

    def __call__(self, event: Event) -> None:
        """Every event is a sign of life."""
        self._last = time.monotonic()
        self._so_far = event.so_far or self._so_far
        if event.kind == "judging":
            self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self.patience_s / 4)):
            if time.monotonic() - self._last > self.patience_s:
                self.fired = True
                print(f"error: nothing came back for {self.patience_s:g} s: the environment or the reward hangs; "
                      "stopping with what was found so far", file=sys.stderr)
                signal.raise_signal(signal.SIGINT)
                if not self._stopped.wait(self.grace_s):
                    self._cut()
                return

    def _cut(self) -> None:
        """The main thread cannot be reached: writes what there is, and ends the process."""
        try:
            if self._so_far is not None:
                print(f"report   {self.save(self._so_far()) / 'report.html'}", flush=True)
        except Exception as error:  # nothing more can be done than to say so
            print(f"error: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(2)
