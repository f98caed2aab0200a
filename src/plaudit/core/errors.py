"""The errors that plaudit raises: each says what was expected, what came, and how to mend it."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]

class PlauditError(Exception):
    """Base class of every error that plaudit raises on purpose."""


class BadInput(PlauditError, ValueError):
    """An argument, a file or an answer from outside is not what it has to be.

    Example:
        >>> str(BadInput("discount", expected="a number in [0, 1]", received=1.2, fix="pass 0.99"))
        'discount: expected a number in [0, 1], received 1.2; pass 0.99'
    """

    def __init__(self, name: str, *, expected: str, received: object, fix: str = "") -> None:
        self.name, self.expected, self.received, self.fix = name, expected, received, fix
        shown = received if isinstance(received, str) else repr(received)
        super().__init__(f"{name}: expected {expected}, received {shown}" + (f"; {fix}" if fix else ""))


RAISED: tuple[type[BaseException], ...] = (Exception, SystemExit)
"""What code that a user gave may raise where it costs one answer only: `sys.exit` too, never Ctrl-C."""


class UnknownReward(PlauditError):
    """A reward was asked for numbers where it has none; `score` gives what is known, and why the rest is not."""


class Unsupported(PlauditError):
    """A reward needs what this learner, task or combination cannot give."""


class MissingExtra(PlauditError, ImportError):
    """An optional package is needed; the message is the line that installs it."""


def warn(text: str) -> None:
    """A UserWarning at the line that called plaudit, however many functions of it lie between.

    The command line counts as a caller: it shows what is said to it.
    """
    inner, cli = os.path.join(_PACKAGE, ""), os.path.join(_PACKAGE, "cli", "")
    here = inspect.currentframe()
    frame, level = None if here is None else here.f_back, 2
    while frame is not None and frame.f_code.co_filename.startswith(inner) \
            and not frame.f_code.co_filename.startswith(cli):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)
