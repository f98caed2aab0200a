"""Code that a file names (a witness, a saved reward) runs only as the user has seen it, or with consent.

Such a file may come from somebody else, and importing is running. So three kinds of names are free: what plaudit
itself defines; a file or module below the working folder whose bytes are those that were noted (but no installed
package); nothing else. And in them only what the file defines: `rewards.py:os.system` is not a reward of yours.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.core.targets import Target, file_hash, load_target

ASK = "pass --trust (in Python: trust=True) if you trust it"


def load_with_consent(source: Mapping[str, Any], *, trust: bool, what: str = "witness") -> Target:
    """Loads `{"target", "path", "sha256"}`.

    Args:
        source: `target` is `file.py:name` or `module:name`; `path` says where the file lay, `sha256` what was in it.
        trust: Whether code may run that has changed, that lies elsewhere, or that is installed.
        what: What names the code, for the error.

    Raises:
        BadInput: when the code would need consent, is missing, or fails to import.

    Example:
        >>> load_with_consent({"target": "plaudit.auditing.flaws.boat_race:reward"}, trust=False).thing.__name__
        'reward'
    """
    text = source.get("target")
    if not isinstance(text, str) or ":" not in text:
        raise BadInput(what, expected="the name of its code, file.py:name or module:name", received=repr(text))
    head, _, name = text.rpartition(":")
    if head.endswith(".py"):
        path = _file(head, source, what)
        target = text if Path(head).is_file() else f"{path}:{name}"
        if not trust:
            _may_run(path, source, what)
    else:
        target = text
        if not trust and not _is_ours(head):
            file = _file_of_module(head)
            if file is None:
                raise BadInput(what, expected="your consent to import a module", received=text, fix=ASK)
            _may_run(file, source, what)
    loaded = load_target(target)
    if not trust and not _is_defined_there(loaded, head):
        raise BadInput(what, expected=f"something that {head} defines", received=text, fix=ASK)
    return loaded


def noted(target: Target) -> dict[str, str | None]:
    """What `load_with_consent` wants to know of a target.

    Example:
        >>> noted(load_target("fractions:Fraction"))["target"]
        'fractions:Fraction'
    """
    return {"target": target.text, "path": str(target.path) if target.path else None, "sha256": target.sha256}


def _is_ours(module: str) -> bool:
    return module == "plaudit" or module.startswith("plaudit.")


def _file(head: str, source: Mapping[str, Any], what: str) -> Path:
    """The file as it was named, or where it lay then."""
    candidates = [Path(p) for p in (head, source.get("path")) if isinstance(p, str)]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise BadInput(what, expected="code that is still there", received=" or ".join(str(p) for p in candidates),
                       fix="run it where the file lies")
    return found.resolve()


def _file_of_module(name: str) -> Path | None:
    """The file below this folder that importing would run, found without running any; None for installed modules."""
    known = sys.modules.get(name)
    if known is not None:
        origin = getattr(known, "__file__", None)
    else:
        places: Sequence[str] | None = [str(Path.cwd()), *sys.path]
        origin, parts = None, name.split(".")
        for i in range(len(parts)):
            spec = None if places is None else PathFinder.find_spec(".".join(parts[: i + 1]), places)
            if spec is None:
                return None
            origin, places = spec.origin, spec.submodule_search_locations
    path = Path(origin).resolve() if origin else None
    if path is None or path.suffix != ".py" or "site-packages" in path.parts:
        return None
    return path if path.is_relative_to(Path.cwd().resolve()) else None


def _may_run(path: Path, source: Mapping[str, Any], what: str) -> None:
    if not path.is_relative_to(Path.cwd().resolve()):
        raise BadInput(what, expected="code below this folder", received=str(path), fix=ASK)
    if not source.get("sha256"):
        raise BadInput(what, expected="the hash of its code", received=f"none for {path.name}", fix=ASK)
    if file_hash(path) != source["sha256"]:
        raise BadInput(what, expected="the code as it was then", received=f"{path.name}, which has changed",
                       fix="pass --trust (in Python: trust=True) to run it as it is now")


def _is_defined_there(loaded: Target, head: str) -> bool:
    home = getattr(loaded.thing, "__module__", None)
    if isinstance(loaded.thing, ModuleType) or not isinstance(home, str):
        return False
    return _is_ours(home) or (not _is_ours(head) and home == loaded.module)
