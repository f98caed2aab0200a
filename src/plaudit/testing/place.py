"""Which test is running, and where its reports go."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Running:
    """A test of pytest."""

    name: str
    """Its node id."""
    out: Path | None
    """The folder that the user named for reports."""
    temporary: Callable[[], Path]
    """Makes a folder of pytest's own."""
    note: Callable[[str, str], None]
    """Adds a property to the test's result."""

    def folder(self) -> Path:
        """Where the report of an audit in this test goes."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.name).strip("-")[-120:]
        return _free(self.out / name) if self.out else self.temporary()


RUNNING: ContextVar[Running | None] = ContextVar("running", default=None)


def folder_of_report() -> Path:
    """The folder for a report: of the test that runs, else a temporary one."""
    running = RUNNING.get()
    return running.folder() if running else Path(tempfile.mkdtemp(prefix="plaudit-"))


def _free(folder: Path) -> Path:
    """The folder, or a numbered one beside it where a test audits more than once."""
    n = 2
    free = folder
    while (free / "report.json").exists():
        free, n = folder.with_name(f"{folder.name}-{n}"), n + 1
    return free
