"""Many independent jobs: in this process or on Ray, finished ones kept, the same numbers either way.

A job is a module-level function's name and JSON: nothing else travels, so a job means the same in another process
and after a kill. Every job runs on one thread of torch, here as there, because sums on two threads round differently.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from plaudit.core.checkpoint import write_text
from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.naming import source_of
from plaudit.core.targets import load_target

if TYPE_CHECKING:
    from plaudit.core.cluster import Cluster

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words."""
_RETRIES = 3
log = logging.getLogger(__name__)


# --- what finished is kept ----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Kept:
    """JSON values by key, one atomic file each; what a run that was killed finds again.

    Attributes:
        folder: where the files are; None keeps nothing.
        seconds: what the values that were found had cost when they were made.
        needed: whether it is an error when a value cannot be written; otherwise a warning.

    Example:
        >>> import tempfile
        >>> kept = Kept(folder=Path(tempfile.mkdtemp()))
        >>> [kept.get_or("a", lambda: 3), kept.get_or("a", lambda: 4)]
        [3, 3]
    """

    folder: Path | None = None
    seconds: float = field(default=0.0)
    needed: bool = True

    def get_or(self, key: Any, work: Callable[[], Any]) -> Any:
        """The value kept under a JSON key; where there is none, that of `work`, which is kept."""
        found = self.get(key)
        if found is not None:
            return found[0]
        start = time.perf_counter()
        value = work()
        return self.put(key, value, seconds=time.perf_counter() - start)

    def get(self, key: Any) -> tuple[Any] | None:
        """The value in a tuple of its own, or None where there is no whole file for this key."""
        path = self._path(key)
        if path is None:
            return None
        try:
            raw = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
            if raw["key"] != json.loads(json.dumps(key)):
                return None
            value, seconds = raw["value"], float(raw["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self.seconds += seconds
        return (value,)

    def put(self, key: Any, value: Any, *, seconds: float = 0.0) -> Any:
        """Keeps a value; gives it as it will be read.

        Raises:
            BadInput: when the value is not JSON.
            PlauditError: when the file system refuses, and the values are needed.
        """
        same = through_json("result", value)
        path = self._path(key)
        if path is not None:
            try:
                write_text(path, json.dumps({"key": key, "seconds": seconds, "value": same}))
            except PlauditError as error:
                if self.needed:
                    raise
                log.warning("what is finished is not kept: %s", error)
        return same

    def forget(self) -> None:
        """Removes what was kept, and the folder where nothing else lies in it."""
        if self.folder is None or not self.folder.exists():
            return
        for path in self.folder.glob("*.json"):
            path.unlink()
        for place in (self.folder, self.folder.parent):
            if not any(place.iterdir()):
                place.rmdir()

    def _path(self, key: Any) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"


def through_json(name: str, value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists, NaN stays NaN.

    Raises:
        BadInput: when it is not made of numbers, text, None, lists and dictionaries with text as keys.

    Example:
        >>> through_json("job", {"states": (8, 16)})
        {'states': [8, 16]}
    """
    _check_keys(name, value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise BadInput(name, expected="JSON: numbers, text, None, lists and dictionaries", received=str(error),
                       fix="pass seeds as integers, tensors as lists, options as dataclasses.asdict") from error


def _check_keys(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[Any, Any]", value).items():
            if not isinstance(key, str):
                raise BadInput(name, expected="JSON, whose keys are text", received=f"the key {key!r}")
            _check_keys(name, inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            _check_keys(name, inner)


# --- running ------------------------------------------------------------------------------------------------


def run_jobs(function: Callable[..., Any] | str, jobs: Sequence[Mapping[str, Any]], *,
             ray: Cluster | str | bool | None = None, folder: Kept | str | Path | None = None, version: str = "",
             names: Sequence[str] | None = None, progress: Progress | None = None,
             retries: int = _RETRIES) -> list[Any]:
    """Runs `function(**job)` for every job, and gives the JSON results in the order of the jobs.

    Args:
        function: a module-level function, or its name "module:function" or "file.py:function".
        jobs: JSON mappings, each the arguments of one call. Randomness belongs into them, as seeds.
        ray: None or False runs in this process, one job after the other; True on a Ray of this machine with a
            worker for each core; a number as text ("2") with so many; "auto" or "host:port" on a running cluster.
        folder: where finished jobs are kept, so that a killed run goes on (or a `Kept`); None keeps none.
        version: what else a kept result depends on, such as `code_hash(module)`.
        names: what progress and errors call the jobs; by default "FUNCTION 3 of 10".
        progress: told the share done and the job just finished.
        retries: how often a job is begun anew after its worker was lost.

    Raises:
        BadInput: when the function cannot be found by name, a job or a result is not JSON, or nothing answers at
            the address.
        MissingExtra: when Ray is asked for and not installed.
        PlauditError: when a job failed, or its worker was lost for good. What finished is kept.

    Example:
        >>> run_jobs(json.dumps, [{"obj": [1, 2]}, {"obj": None}])
        ['[1, 2]', 'null']
    """
    name = name_of(function)
    work = load_target(name).thing if isinstance(function, str) else function
    plain = [through_json(f"jobs[{i}]", dict(job)) for i, job in enumerate(jobs)]
    called = [f"{name.rpartition(':')[2]} {i + 1} of {len(plain)}" for i in range(len(plain))] if names is None \
        else list(names)
    if len(called) != len(plain):
        raise BadInput("names", expected=f"one for each of the {len(plain)} jobs", received=len(called))
    kept = folder if isinstance(folder, Kept) else Kept(folder=None if folder is None else Path(folder))
    board = Board(kept, name, plain, version, called,
                  progress or (lambda done, text: None))
    if ray is None or ray is False:
        for i in board.open():
            start = time.perf_counter()
            with one_thread(), _named(called[i]):
                value = work(**plain[i])
            board.finish(i, value, seconds=time.perf_counter() - start)
    elif board.open():
        from plaudit.core.cluster import Cluster

        if isinstance(ray, Cluster):
            ray.run(board, retries=retries)
        else:
            with Cluster(ray) as cluster:
                cluster.run(board, retries=retries)
    return board.results()


class Board:
    """Which jobs are open and what the finished ones gave."""

    def __init__(self, kept: Kept, function: str, jobs: list[dict[str, Any]], version: str, names: list[str],
                 progress: Progress) -> None:
        self.kept, self.function, self.jobs, self.version = kept, function, jobs, version
        self.names, self.progress = names, progress
        self._found = {i: found for i in range(len(jobs)) if (found := kept.get(self._key(i))) is not None}

    def open(self) -> list[int]:
        """The jobs that have no result yet, in order."""
        return [i for i in range(len(self.jobs)) if i not in self._found]

    def finish(self, i: int, value: Any, *, seconds: float) -> None:
        """Keeps the result of a job, and says so."""
        self._found[i] = (self.kept.put(self._key(i), value, seconds=seconds),)
        self.progress(len(self._found) / len(self.jobs), self.names[i])

    def results(self) -> list[Any]:
        """All results, in the order of the jobs."""
        return [self._found[i][0] for i in range(len(self.jobs))]

    def _key(self, i: int) -> Any:
        return [self.function, self.jobs[i], self.version]


def name_of(function: Callable[..., Any] | str) -> str:
    """The name by which another process finds a module-level function: "module:function" or "file.py:function".

    Raises:
        BadInput: when it has none: a lambda, a method, a function inside a function.

    Example:
        >>> name_of(json.dumps)
        'json:dumps'
    """
    if isinstance(function, str):
        return function
    try:
        source = source_of(function, what="the function")
    except Unsupported as error:
        raise BadInput("function", expected="one that another process can import", received=str(error),
                       fix="pass what it closed over in the jobs") from None
    module, path = function.__module__, source["path"]
    if path is None or _is_imported_from(module, path):
        return f"{module}:{function.__qualname__}"
    return f"{path}:{function.__qualname__}"


def _is_imported_from(module: str, path: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == Path(path)


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """One thread of torch while the block runs; a sum over two threads may differ in its last bit."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


@contextlib.contextmanager
def _named(name: str) -> Generator[None]:
    """Errors say in which job they happened."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the job {name}")
        raise
