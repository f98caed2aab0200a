"""The running half of a `Pool`: one thread that hands out calls, watches deadlines and replaces workers."""

from __future__ import annotations

import ast
import functools
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.specify.text.worker import from_plain

log = logging.getLogger(__name__)
SCRIPT = Path(__file__).with_name("worker.py")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LONGEST_ANSWER = 64_000_000
TRIES = 3
"""So many starts may fail in a row before waiting calls are answered with the reason."""


@dataclass(frozen=True)
class Limits:
    """What a call may take."""

    time_s: float
    start_s: float
    memory_mb: int | None


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a value, or why there is none."""

    value: Any = None
    why: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Reference:
    """A function as another process finds it: by module, file and name, or as an object that can be pickled."""

    module: str
    path: str | None
    thing: Any

    @staticmethod
    def to(fn: Callable[..., Any]) -> Reference:
        """How a worker will find a function.

        Raises:
            BadInput: when it cannot.
        """
        inner = fn
        while hasattr(inner, "func") and not hasattr(inner, "__qualname__"):
            inner = inner.func  # type: ignore[reportFunctionMemberAccess]
        name = getattr(inner, "__qualname__", type(inner).__qualname__)
        module: str = getattr(inner, "__module__", None) or type(inner).__module__
        if "<locals>" in name or "<lambda>" in name:
            raise BadInput("function", expected="a function at the top of a file, which another process can import",
                           received=f"{name} of {module}",
                           fix="move it there, and bind what it closes over: functools.partial(fn, limit=3)")
        path = getattr(sys.modules.get(module), "__file__", None)
        if module == "__main__" and path is not None and name.split(".")[0] in behind_main(path):
            raise BadInput("function", expected="a function that another process finds when it imports its file",
                           received=f"{name}, which is only defined where {os.path.basename(path)} is run",
                           fix='move it to the top of the file, before: if __name__ == "__main__":')
        if module == "__main__" and path is None:
            raise BadInput("function", expected="a function in a file, which another process can import",
                           received=f"{name}, typed into a session",
                           fix="write it into a file and import it from there")
        path = os.path.abspath(path) if path else None
        plain = inner is fn and hasattr(fn, "__qualname__") and getattr(fn, "__self__", None) is None
        return Reference(module, path, (module, path, name) if plain else fn)


@functools.cache
def behind_main(path: str) -> frozenset[str]:
    """The functions and classes of a file that are defined only behind `if __name__ == "__main__":`."""
    try:
        top = ast.parse(Path(path).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    guards = [s for s in top if isinstance(s, ast.If) and "__name__" in {
        n.id for n in ast.walk(s.test) if isinstance(n, ast.Name)}]
    others = [s for s in top if s not in guards] + [s for guard in guards for s in guard.orelse]
    behind, before = (_defined(part) for part in ([s for guard in guards for s in guard.body], others))
    return frozenset(behind - before)


def _defined(statements: Sequence[ast.AST]) -> set[str]:
    """The names of functions and classes, wherever they stand but in one another."""
    names: set[str] = set()
    for s in statements:
        if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(s.name)
        else:
            names |= _defined(list(ast.iter_child_nodes(s)))
    return names


@dataclass(eq=False)
class _Call:
    reference: Reference
    inputs: dict[str, Any]
    future: Future[Outcome] = field(default_factory=Future)


@dataclass(eq=False)
class _Worker:
    pid: int
    connection: Connection
    deadline: float
    modules: set[str]
    ready: bool = False
    loading: bool = False
    """Whether the call that it has waits for an import, which the time of the call does not count."""
    call: _Call | None = None


class Engine:
    """Workers and their calls; everything but `submit`, `prepare` and `close` happens in its own thread."""

    def __init__(self, count: int, limits: Limits) -> None:
        self.pid, self.count, self.limits = os.getpid(), count, limits
        self.counts: Counter[str] = Counter()
        self._waiting: deque[_Call] = deque()
        self._workers: list[_Worker] = []
        self._modules: dict[str, str | None] = {}
        self._keeper: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._failures, self._closing, self._stale = 0, False, False
        self._imported: set[str] = set()
        self._import_in = "keeper"
        self._lock = threading.Lock()
        self._bell, self._ring = (Connection(s.detach()) for s in socket.socketpair())
        self._thread = threading.Thread(target=self._run, name="plaudit-pool", daemon=True)
        self._thread.start()

    # --- called from outside ----------------------------------------------------------------------------

    def prepare(self, references: Sequence[Reference]) -> None:
        """Notes modules to import before the first call."""
        with self._lock:
            self._stale |= any(r.module not in self._modules for r in references)
            self._modules |= {r.module: r.path for r in references}
        self._wake()

    def submit(self, reference: Reference, inputs: dict[str, Any]) -> Future[Outcome]:
        """Queues a call."""
        call = _Call(reference, inputs)
        with self._lock:
            if self._closing:
                call.future.set_result(Outcome(why="the pool was closed"))
                return call.future
            self._modules.setdefault(reference.module, reference.path)
            self._waiting.append(call)
        self._wake()
        return call.future

    def close(self) -> None:
        """Ends everything; waits until the processes are gone."""
        with self._lock:
            self._closing = True
        if self.pid != os.getpid():
            return
        self._wake()
        self._thread.join(timeout=10.0)

    def pids(self) -> list[int]:
        return [w.pid for w in list(self._workers)]

    def _wake(self) -> None:
        try:
            self._ring.send_bytes(b"!")
        except OSError:
            return

    # --- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._refresh()
                self._fill()
                self._hand_out()
                due = [w.deadline for w in self._workers if w.call or not w.ready]
                timeout = max(0.0, min(due) - time.monotonic()) if due else None
                heard = wait([self._bell, *(w.connection for w in self._workers)], timeout)
                if self._bell in heard:
                    self._bell.recv_bytes()
                for worker in [w for w in self._workers if w.connection in heard]:
                    if worker in self._workers:
                        self._hear(worker)
                self._cut_off()
        except Exception:
            log.exception("the pool stops")
        finally:
            self._shut()

    def _refresh(self) -> None:
        """Starts anew with modules that were noted later, while nobody waits for an answer."""
        if self._stale and not self._waiting and not any(w.call for w in self._workers):
            self._stale = False
            if not set(self._modules) <= self._imported:
                self._drop_keeper()

    def _cut_off(self) -> None:
        """Kills the workers that are late."""
        now = time.monotonic()
        for worker in [w for w in self._workers if (w.call or not w.ready) and w.deadline <= now]:
            if worker in self._workers and not worker.connection.poll():
                early = worker.loading or not worker.ready
                what = f"its module was not imported within {self.limits.start_s:g} s" if early else \
                    f"no answer within {self.limits.time_s:g} s"
                self._lose(worker, "time limit", what)

    def _hear(self, worker: _Worker) -> None:
        """Reads what a worker says: that it is ready, or an answer."""
        try:
            said: Any = json.loads(worker.connection.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError, ValueError) as error:
            self._lose(worker, "worker died", "" if isinstance(error, EOFError | ConnectionError) else str(error))
            return
        if not worker.ready:
            worker.ready, self._failures = True, 0
            return
        if worker.loading and "loaded" in said:
            worker.loading, worker.deadline = False, time.monotonic() + self.limits.time_s
            return
        call, worker.call = worker.call, None
        if call is None:
            self._lose(worker, "worker died", "it spoke without being asked")
            return
        why = str(said.get("why", ""))
        self.counts[why.split(" ")[0] if why.startswith("raised") else "memory limit" if why else "answered"] += 1
        value = None if why else from_plain(said.get("value"))
        call.future.set_result(Outcome(value, why, float(said.get("seconds", 0.0))))

    def _hand_out(self) -> None:
        for worker in [w for w in self._workers if w.ready and w.call is None]:
            with self._lock:
                call = self._waiting.popleft() if self._waiting else None
            if call is None:
                return
            if not call.future.set_running_or_notify_cancel():
                continue
            where = call.reference
            try:
                data = ForkingPickler.dumps((where.thing, call.inputs))
            except Exception as error:  # the border: whatever refuses to be pickled
                self.counts["raised"] += 1
                call.future.set_result(Outcome(why=f"its arguments cannot be sent to a worker: {error}"))
                continue
            worker.call, worker.loading = call, where.module not in worker.modules
            worker.modules.add(where.module)
            worker.deadline = time.monotonic() + (self.limits.start_s if worker.loading else self.limits.time_s)
            try:
                worker.connection.send_bytes(json.dumps([where.module, where.path, worker.loading]).encode())
                worker.connection.send_bytes(data)
            except OSError:
                self._lose(worker, "worker died", "")

    def _lose(self, worker: _Worker, kind: str, what: str) -> None:
        """Kills a worker; the call that it had is unknown."""
        status = self._end(worker)
        if kind == "worker died" and not what:
            what = _how(status)
        if worker.call is not None:
            self.counts[kind] += 1
            log.warning("a call in a worker has no answer: %s (%s)", kind, what)
            worker.call.future.set_result(Outcome(why=f"{kind}: {what}"))
        elif not worker.ready:
            self._import_in = "call"
            self._fail_start(f"{kind}: {what}")

    # --- processes --------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Starts workers until there are enough."""
        while len(self._workers) < self.count and not self._closing and (self._modules or self._waiting):
            try:
                control = self._control or self._start_keeper()
                ours, theirs = socket.socketpair()
                with theirs:
                    socket.send_fds(control, [b"F"], [theirs.fileno()])
                (pid,) = struct.unpack("!i", _exactly(control, 4))
            except (OSError, EOFError, ValueError) as error:
                self._drop_keeper()
                self._import_in = "call"
                self._fail_start(f"{type(error).__name__}: {error}")
                if self._failures == 0:
                    return
                continue
            self._workers.append(_Worker(pid, Connection(ours.detach()), time.monotonic() + self.limits.start_s + 5,
                                         modules=set(self._imported)))

    def _start_keeper(self) -> socket.socket:
        """Starts the clean process that workers are forked from.

        Raises:
            OSError: when it did not come up, with the reason.
        """
        ours, theirs = socket.socketpair()
        env = {**dict.fromkeys(ONE_THREAD, "1"), "TOKENIZERS_PARALLELISM": "false", **os.environ}
        with theirs:
            self._keeper = subprocess.Popen([sys.executable, "-P", str(SCRIPT), str(theirs.fileno())], env=env,
                                            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        with self._lock:
            modules = list(self._modules.items())
        self._control = ours
        ours.settimeout(10.0)
        setup = {"path": [os.path.abspath(p) if p else os.getcwd() for p in sys.path], "modules": modules,
                 "import_in": self._import_in, "caller": os.getpid(), "start_limit_s": self.limits.start_s,
                 "memory_mb": self.limits.memory_mb}
        channel = Connection(os.dup(ours.fileno()))
        try:
            channel.send_bytes(json.dumps(setup).encode())
            if not channel.poll(self.limits.start_s + 5):
                raise OSError(f"it did not come up within {self.limits.start_s:g} s")
            said = json.loads(channel.recv_bytes())
        finally:
            channel.close()
        if said["threads"] > 1 and self._import_in == "keeper":
            log.info("importing the functions starts threads, so each worker imports them for itself")
            self._import_in = "worker"
            self._drop_keeper()
            return self._start_keeper()
        self._imported = set() if self._import_in == "call" else {name for name, _ in modules}
        return ours

    def _fail_start(self, why: str) -> None:
        self._failures += 1
        if self._failures < TRIES:
            return
        self._failures, self._import_in = 0, "keeper"
        self._drop_keeper()
        log.warning("workers cannot be started: %s", why)
        with self._lock:
            lost, self._waiting = list(self._waiting), deque()
            self._modules.clear()
        for call in lost:
            self.counts["not started"] += 1
            call.future.set_result(Outcome(why=f"workers cannot be started: {why}"))

    def _end(self, worker: _Worker) -> int | None:
        """Kills a worker and gives how it ended, if that can be known."""
        self._workers.remove(worker)
        worker.connection.close()
        if self._control is None:
            return None
        try:
            self._control.sendall(b"K" + struct.pack("!i", worker.pid))
            return struct.unpack("!i", _exactly(self._control, 4))[0]
        except (OSError, EOFError):
            self._drop_keeper()
            return None

    def _drop_keeper(self) -> None:
        """Closes the line to the keeper, which ends it and all workers."""
        if self._control is not None:
            self._control.close()
        if self._keeper is not None:
            try:
                self._keeper.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
        self._control = self._keeper = None
        for worker in list(self._workers):
            self._workers.remove(worker)
            worker.connection.close()
            if worker.call is not None:
                self.counts["worker died"] += 1
                worker.call.future.set_result(Outcome(why="worker died: the process that keeps the workers ended"))

    def _shut(self) -> None:
        self._closing = True
        with self._lock:
            lost, self._waiting = list(self._waiting), deque()
        lost += [w.call for w in self._workers if w.call is not None]
        for worker in self._workers:
            worker.call = None
        self._drop_keeper()
        for call in lost:
            call.future.set_result(Outcome(why="the pool was closed"))
        self._bell.close()
        self._ring.close()


def _exactly(control: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        part = control.recv(n - len(data))
        if not part:
            raise EOFError("the process that keeps the workers ended")
        data += part
    return data


def _how(status: int | None) -> str:
    if status is None:
        return "killed"
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
