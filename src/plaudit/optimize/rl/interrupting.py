"""Ctrl-C between two updates of a run and not inside of one, where the networks are half-changed."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType

log = logging.getLogger(__name__)


class Interruptible:
    """Inside of it the first Ctrl-C is noted in `asked`, and raised when it is left; a second is raised at once.

    Nothing is held back outside the main thread, or where the program has a handler of its own.

    Args:
        hold: Whether to hold anything back.

    Example:
        >>> with Interruptible(hold=True) as stop:
        ...     stop.asked
        False
    """

    def __init__(self, *, hold: bool) -> None:
        self.asked = False
        self._hold = hold and threading.current_thread() is threading.main_thread() \
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> Interruptible:
        if self._hold:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._hold:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        log.warning("interrupted: finishing this update and writing a checkpoint; once more stops at once")
