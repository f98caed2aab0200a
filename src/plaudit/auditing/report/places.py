"""Where the audited code stands: the file and line that annotations and code-scanning viewers point at."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from plaudit.core.functions import FunctionReward

if TYPE_CHECKING:
    from plaudit.auditing.report.model import AuditReport


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    path: Path
    line: int

    @property
    def shown(self) -> str:
        """As seen from the root of the checkout, if the file lies in it."""
        root = root_of(self.path)
        return self.path.relative_to(root).as_posix() if root else str(self.path)

    @property
    def uri(self) -> str:
        """A relative reference below the root of the checkout, else an absolute one."""
        return quote(self.shown) if root_of(self.path) else self.path.as_uri()


def place_of(report: AuditReport) -> Place | None:
    """Where the audited thing is written; None where it comes from no file (an environment id, a saved reward)."""
    target = report.subject.target
    if target is not None and target.path is not None:
        name = target.text.rpartition(":")[2].split(".")[0]
        return Place(target.path, line_of(target.path, name) or _first_line(target.thing) or 1)
    reward = report.subject.reward
    code = getattr(reward.fn, "__code__", None) if isinstance(reward, FunctionReward) else None
    path = Path(code.co_filename) if code is not None else None
    return Place(path.resolve(), code.co_firstlineno) if code is not None and path and path.is_file() else None


def line_of(path: Path, name: str) -> int | None:
    """The line of a file on which a function, class or variable of its top level is defined.

    Example:
        >>> line_of(Path(__file__), "Place") < line_of(Path(__file__), "line_of")
        True
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node.lineno
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) \
            else []
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return node.lineno
    return None


def root_of(path: Path) -> Path | None:
    """The root of the checkout (GitHub says which, else the working folder) if the path lies below it."""
    roots = [Path(p).resolve() for p in (os.environ.get("GITHUB_WORKSPACE"), Path.cwd()) if p]
    return next((root for root in roots if path.is_relative_to(root)), None)


def _first_line(thing: object) -> int | None:
    code = getattr(thing.fn if isinstance(thing, FunctionReward) else thing, "__code__", None)
    return getattr(code, "co_firstlineno", None)
