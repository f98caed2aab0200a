"""Loads what a user names on the command line: `file.py:name` or `module:name`."""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from plaudit.core.errors import BadInput


@dataclass(frozen=True)
class Target:
    """A named object, and the file it came from."""

    text: str
    """How the user named it, such as `rewards.py:speed`."""
    thing: Any
    path: Path | None
    sha256: str | None
    """Of the file's bytes, so that a witness can tell whether the code has changed."""
    module: str = ""
    """The name under which it was imported."""


def looks_like_target(text: str) -> bool:
    """Whether the text has the form `file.py:name` or `module:name`."""
    head, _, name = text.rpartition(":")
    return bool(head) and name.replace(".", "").isidentifier()


def refuse_bare_file(option: str, text: str) -> None:
    """Refuses a Python file that is named without what is meant in it; tells what it defines, and runs none of it.

    Raises:
        BadInput: for `file.py`.
    """
    path = Path(text)
    if path.suffix == ".py" and ":" not in text:
        names = public_names(path)
        raise BadInput(option, expected="a name in the file, as in file.py:name", received=text,
                       fix=f"it defines {', '.join(f'{text}:{n}' for n in names[:6])}" if names else
                       "check the path" if not path.is_file() else "it defines no function or class")


def definitions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The functions and classes at the top of a file, read and not run; none where it cannot be read."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]


def public_names(path: Path) -> list[str]:
    """The names of those that are no file's own business."""
    return [node.name for node in definitions(path) if not node.name.startswith("_")]


def load_target(text: str) -> Target:
    """Imports the file or module and returns the object of that name.

    The file is executed as Python does on import: name only files that you trust.

    Raises:
        BadInput: when the form is wrong, the file is missing or fails to import, or has no such name.

    Example:
        >>> load_target("math:sqrt").thing(9.0)
        3.0
    """
    head, _, name = text.rpartition(":")
    refuse_bare_file("target", text)
    if not head or not name:
        raise BadInput("target", expected="file.py:name or module:name", received=text)
    module = _module_of_file(Path(head), text) if head.endswith(".py") else _module(head, text)
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            names: dict[str, Any] = dict(getattr(thing, "__dict__", {}))
            public = [n for n, value in names.items() if not n.startswith("_") and not isinstance(value, ModuleType)]
            near = difflib.get_close_matches(part, public, 3) or public[:8]
            raise BadInput("target", expected=f"a name that {head} defines", received=part,
                           fix=f"did you mean {', '.join(near)}?" if near else "it defines no public name")
        thing = getattr(thing, part)
    file: str | None = getattr(module, "__file__", None)
    path = Path(file).resolve() if file else None
    return Target(text, thing, path, file_hash(path) if path and path.suffix == ".py" else None, module.__name__)


@contextlib.contextmanager
def option(name: str) -> Generator[None]:
    """Lets errors about a target say which option named it."""
    try:
        yield
    except BadInput as error:
        if error.name != "target":
            raise
        raise BadInput(name, expected=error.expected, received=error.received, fix=error.fix) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _module_of_file(path: Path, text: str) -> ModuleType:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], 1) \
            if path.parent.is_dir() else []
        raise BadInput("target", expected="a file that exists", received=str(path),
                       fix=f"did you mean {path.parent / near[0]}?" if near else "check the path")
    full = path.resolve()
    name = f"plaudit_target_{hashlib.sha256(str(full).encode() + full.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise BadInput("target", expected="a Python file", received=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(full.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises is told with its line
        del sys.modules[name]
        raise BadInput("target", expected="a file that imports", received=f"{text}: {_where(error, full)}") from error
    finally:
        sys.path.remove(str(full.parent))
    return module


def _module(name: str, text: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadInput("target", expected="a module that imports", received=f"{text}: {error}",
                       fix="a file is named with its ending, such as rewards.py:speed") from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _where(error: Exception, path: Path) -> str:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if isinstance(error, SyntaxError) and error.lineno:
        lines.append(error.lineno)
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")
