"""Jobs on Ray: a Ray of this machine or a running cluster, lost workers replaced, nothing said but progress.

What travels is the name of a function and JSON. A worker imports the function from its own plaudit and runs it
on one thread. Workers of this machine share our files; those of a cluster must have the same sources.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from plaudit.core import errors
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.extras import require
from plaudit.core.provenance import package_hash, versions
from plaudit.core.targets import load_target

if TYPE_CHECKING:
    from plaudit.core.jobs import Board

_PATIENCE_S = 5.0
"""How long an address may take to answer."""
_ALONE_S = 60.0
"""How long a cluster may be without any core before the run gives up."""
_LOOK_S = 1.0
_STORE_BYTES = 100 * 2**20
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4
_ON_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Cluster:
    """Workers for jobs, started when the first job comes and let go at the end of the `with` block.

    Args:
        where: True is a Ray of this machine with a worker for each core, "3" one with three; "auto" is the cluster
            that this machine belongs to, "host:port" another one.

    Raises:
        BadInput: when `where` is none of these.
        MissingExtra: when Ray is not installed.
    """

    def __init__(self, where: str | bool = True) -> None:
        self.address, self.workers = _address("local" if where is True else str(where))
        self._silence = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        with _environment(self._silence):
            self._ray: Any = require("ray", extra="ray")
        self._ours = self._started = False
        self._on_term: Any = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Connects; does nothing where it is done, and joins a Ray that this process has begun itself.

        Raises:
            BadInput: when nothing answers at the address, or something that is no Ray of this version.
        """
        if self._started:
            return
        if not self._ray.is_initialized():
            if threading.current_thread() is threading.main_thread():
                self._on_term = signal.getsignal(signal.SIGTERM)
            self._begin()
            self._ours = True
        self._started = True

    def _begin(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
        token: dict[str, str] = {}
        if self.address == "local":
            options |= {"num_cpus": self.workers, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            token = {"RAY_AUTH_TOKEN": _token()}
        else:
            _answers(_resolved(self.address))
        try:
            with _environment({**self._silence, **token}), _log_errors_only():
                self._ray.init(address=self.address, **options)
        except (SystemExit, Exception) as error:
            with contextlib.suppress(Exception):
                self._ray.shutdown()
            raise _bad_address(self.address, f"{type(error).__name__}: {error}") from error
        _let_ray_print(False)

    def cores(self) -> int:
        """How many jobs can run at once; starts the workers."""
        self.start()
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def close(self) -> None:
        """Lets the workers go, if this process began them."""
        if self._ours:
            self._ray.shutdown()
            _let_ray_print(True)
            if self._on_term is not None:
                signal.signal(signal.SIGTERM, self._on_term)
        self._ours = self._started = False

    def run(self, board: Board, *, retries: int) -> None:
        """Runs the open jobs of a board.

        Raises:
            PlauditError: when a job fails or its worker is lost more than `retries` times; what finished is kept.
        """
        self.start()
        crew = _Crew(self._ray, board, retries, code=None if self.address == "local" else package_hash())
        try:
            crew.work()
        finally:
            crew.leave()


class _Crew:
    """The jobs of one board under way: at most two for each core, so that nobody waits for the next."""

    def __init__(self, ray: Any, board: Board, retries: int, *, code: str | None) -> None:
        self.ray, self.board, self.retries, self.code = ray, board, retries, code
        self.waiting = deque(board.open())
        self.under_way: dict[Any, int] = {}
        self.lost: dict[int, int] = {}
        self.alone_since: float | None = None
        environment = {**_ON_ONE_THREAD, "PYTHONPATH": os.pathsep.join(_own_paths())}
        self.remote = ray.remote(work_one).options(num_cpus=1, max_retries=0, runtime_env={"env_vars": environment})

    def work(self) -> None:
        """Until every job has its result."""
        while self.waiting or self.under_way:
            self._send()
            done, _ = self.ray.wait(list(self.under_way), num_returns=1, timeout=_LOOK_S)
            for ref in done:
                self._take(ref)
            if not done:
                self._check_cores()

    def leave(self) -> None:
        """Keeps what is finished by now and stops the rest."""
        if not self.under_way:
            return
        with contextlib.suppress(Exception):
            done, _ = self.ray.wait(list(self.under_way), num_returns=len(self.under_way), timeout=0)
            for ref in done:
                with contextlib.suppress(PlauditError):
                    self._take(ref)
        for ref in self.under_way:
            with contextlib.suppress(Exception):
                self.ray.cancel(ref, force=True)

    def _send(self) -> None:
        most = max(2, 2 * int(self.ray.cluster_resources().get("CPU", 0)))
        while self.waiting and len(self.under_way) < most:
            i = self.waiting.popleft()
            order = {"function": self.board.function, "job": self.board.jobs[i], "code": self.code,
                     "folder": str(Path.cwd())}
            self.under_way[self.remote.remote(json.dumps(order))] = i

    def _take(self, ref: Any) -> None:
        i, gone = self.under_way.pop(ref), self.ray.exceptions
        try:
            answer = cast("dict[str, Any]", json.loads(self.ray.get(ref)))
        except (gone.WorkerCrashedError, gone.NodeDiedError, gone.OutOfMemoryError, gone.ObjectLostError,
                gone.LocalRayletDiedError) as error:
            self._replace(i, error)
            return
        except gone.RayError as error:
            raise PlauditError(f"the workers could not begin {self.board.names[i]}: {_last_line(error)}; they need the "
                               "same plaudit and the same packages as this process") from error
        if "other_code" in answer:
            theirs = answer["other_code"]
            raise PlauditError(f"another plaudit runs on the workers: version {theirs['version']}, sources "
                               f"{theirs['code']}, in {theirs['path']}; here {self.code}. Install the same on both "
                               "sides, and leave the sources alone while jobs run")
        if "error" in answer:
            raise _failed(self.board.names[i], answer["error"])
        self.board.finish(i, answer["value"], seconds=answer["seconds"])

    def _replace(self, i: int, error: Exception) -> None:
        self.lost[i] = self.lost.get(i, 0) + 1
        if self.lost[i] > self.retries:
            raise PlauditError(f"the worker of {self.board.names[i]} was lost {self.lost[i]} times "
                               f"({type(error).__name__}: {_last_line(error)}); the job is given up. Finished jobs are "
                               "kept where the run has a folder: the same command goes on") from error
        self.waiting.appendleft(i)

    def _check_cores(self) -> None:
        """A cluster whose last worker is gone would let the jobs wait for ever."""
        if self.ray.cluster_resources().get("CPU", 0) >= 1:
            self.alone_since = None
            return
        self.alone_since = self.alone_since or time.monotonic()
        if time.monotonic() - self.alone_since > _ALONE_S:
            first = self.board.names[next(iter(self.under_way.values()))]
            raise PlauditError(f"the cluster has had no worker for {_ALONE_S:.0f} s, {first} and others wait; finished "
                               "jobs are kept where the run has a folder: the same command goes on")


# --- on the worker ------------------------------------------------------------------------------------------


def work_one(order: str) -> str:
    """What a worker does with a job: JSON in, JSON out; errors are told, not raised."""
    from plaudit.core.jobs import one_thread, through_json

    told = cast("dict[str, Any]", json.loads(order))
    if told["code"] not in (None, package_hash()):
        return json.dumps({"other_code": {"code": package_hash(), "path": str(Path(__file__).resolve().parents[1]),
                                          "version": versions()["plaudit"]}})
    start = time.perf_counter()
    if Path(told["folder"]).is_dir():
        os.chdir(told["folder"])  # names of files in the job are relative to it
    try:
        with one_thread():
            value = through_json("result", load_target(told["function"]).thing(**told["job"]))
    except Exception as error:
        return json.dumps({"error": _told(error)})
    return json.dumps({"value": value, "seconds": time.perf_counter() - start})


def _told(error: Exception) -> dict[str, Any]:
    bad = {"name": error.name, "expected": error.expected, "received": str(error.received), "fix": error.fix} \
        if isinstance(error, BadInput) else None
    return {"type": type(error).__name__, "text": str(error), "bad": bad,
            "where": "".join(traceback.format_exception(error))}


def _failed(name: str, error: Mapping[str, Any]) -> PlauditError:
    """The error of a job as it would have been raised here, if it is one of ours."""
    kind = getattr(errors, error["type"], None)
    if error["bad"] is not None:
        ours: PlauditError = BadInput(error["bad"].pop("name"), **error["bad"])
    elif isinstance(kind, type) and issubclass(kind, PlauditError):
        ours = kind(error["text"])
    else:
        ours = PlauditError(f"{name} failed: {error['type']}: {error['text']}")
    ours.add_note(f"in the job {name}, on a worker:\n{error['where']}")
    return ours


# --- addresses ----------------------------------------------------------------------------------------------


def _address(where: str) -> tuple[str, int]:
    """The address for Ray, and how many workers a local one has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if where == "local":
        return "local", cores
    if where.isdigit() and int(where) >= 1:
        return "local", int(where)
    host, _, port = where.rpartition(":")
    if where == "auto" or (host and "/" not in host and port.isdigit() and 0 < int(port) < 65536):
        return where, 0
    raise BadInput("ray", expected="nothing (a worker for each core of this machine), a number of workers, auto, or "
                   "host:port of a cluster", received=where)


def _resolved(address: str) -> str:
    """`auto` is what Ray has noted on this machine."""
    if address != "auto":
        return address
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    try:
        return os.environ.get("RAY_ADDRESS") or note.read_text(encoding="utf-8").strip()
    except OSError:
        raise _bad_address(address, "no Ray runs on this machine") from None


def _answers(address: str) -> None:
    """Ray itself waits for minutes; whoever speaks gRPC sends its settings at once."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S) as line:
            line.settimeout(_PATIENCE_S)
            line.sendall(_HTTP2)
            answer = line.recv(9)
    except (OSError, ValueError) as error:
        raise _bad_address(address, f"{type(error).__name__}: {error}") from None
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise _bad_address(address, "something that is no Ray")


def _bad_address(address: str, what: str) -> BadInput:
    return BadInput("ray", expected=f"a running Ray at {address}", received=what,
                    fix="start one with `ray start --head`, or leave the address out to use this machine")


# --- silence ------------------------------------------------------------------------------------------------


@functools.cache
def _token() -> str:
    """Only this process and its workers know it, so that nobody else may hand jobs to them."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    """Environment variables for the block, and those of Ray that come up in it; what the user has set stays."""
    before = set(os.environ)
    os.environ.update({name: value for name, value in values.items() if name not in before})
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            if name.startswith("RAY_"):
                del os.environ[name]


@contextlib.contextmanager
def _log_errors_only() -> Generator[None]:
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _let_ray_print(on: bool) -> None:
    """A lost worker is told by us; Ray would print to the standard output, and has only this switch against it."""
    with contextlib.suppress(Exception):
        switches: Any = require("ray._private.worker", extra="ray")
        switches._worker_logs_enabled = on


def _own_paths() -> list[str]:
    """Where this process finds modules, besides what is installed: workers look there first."""
    installed = tuple(str(Path(p).resolve()) for p in {sys.prefix, sys.base_prefix})
    found = [str(Path(p or ".").resolve()) for p in sys.path]
    own = [p for p in found if Path(p).is_dir() and not p.startswith(installed)]
    source = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([source, *own]))


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
