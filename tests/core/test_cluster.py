from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from plaudit.core import cluster, jobs
from plaudit.core.cluster import Cluster, work_one
from plaudit.core.errors import BadInput, MissingExtra, PlauditError, Unsupported
from plaudit.core.jobs import Board, Kept, run_jobs
from plaudit.core.provenance import package_hash
from plaudit.core.seeds import Seeds

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")
STARTS_RAY = pytest.mark.slow  # a local Ray needs 5 seconds to start and its workers 3 more


def number(i, note=None, die_once=None, die=False, wrong=False):
    """A pseudo-random number; notes its process, and may be killed by it or by the test."""
    if note is not None:
        Path(note, f"{i}-{os.getpid()}").touch()
    if die_once is not None and not Path(die_once).exists():
        Path(die_once).touch()
        while True:
            time.sleep(0.05)  # the test kills this process
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    if wrong:
        raise BadInput("i", expected="another number", received=i, fix="take another")
    return {"i": i, "value": float(Seeds(1).child(i).numpy().standard_normal(100_000).sum())}


def breaks(i):
    return 1 / i


def where():
    return [os.environ["OMP_NUM_THREADS"], str(Path.cwd())]


# --- without Ray --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["nonsense", "host:", "host:port", "host:99999", "", "0", "-1", "ray://h:1", ":80"])
def test_address_that_is_none_is_refused(bad):
    with pytest.raises(BadInput, match="ray: expected"):
        Cluster(bad)


def test_addresses():
    assert cluster._address("3") == ("local", 3)
    assert cluster._address("auto") == ("auto", 0)
    assert cluster._address("head.example:6379") == ("head.example:6379", 0)
    assert cluster._address("[::1]:6379") == ("[::1]:6379", 0)
    assert cluster._address("local")[1] >= 1


def test_without_ray_the_line_that_installs_it(monkeypatch):
    def missing(module, *, extra):
        raise MissingExtra(f"{module} is not installed; run: pip install 'plaudit[{extra}]'")

    monkeypatch.setattr(cluster, "require", missing)
    with pytest.raises(MissingExtra, match=r"plaudit\[ray\]"):
        run_jobs(number, [{"i": 1}], ray=True)
    assert run_jobs(number, [], ray=True) == []


@needs_ray
def test_nobody_at_the_address_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(BadInput, match=f"a running Ray at 127.0.0.1:{port}"):
        run_jobs(number, [{"i": 1}], ray=f"127.0.0.1:{port}")
    assert time.monotonic() - begun < 8


@needs_ray
def test_something_else_at_the_address_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            line, _ = server.accept()
            with line:
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(BadInput, match="something that is no Ray"):
            run_jobs(number, [{"i": 1}], ray=f"127.0.0.1:{server.getsockname()[1]}")


@needs_ray
def test_auto_without_a_cluster_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(BadInput, match="no Ray runs on this machine"):
        run_jobs(number, [{"i": 1}], ray="auto")


def order(function, job, code=None):
    return json.dumps({"function": function, "job": job, "code": code, "folder": "/nowhere"})


def test_worker_answers_in_json():
    answer = json.loads(work_one(order(jobs.name_of(number), {"i": 3})))
    assert answer["value"] == number(3)
    assert json.loads(work_one(order(jobs.name_of(number), {"i": 3}, code=package_hash())))["value"] == number(3)


def test_worker_with_other_sources_says_which(tmp_path):
    answer = json.loads(work_one(order(jobs.name_of(number), {"i": 3, "note": str(tmp_path)}, code="0" * 16)))
    assert answer["other_code"]["code"] == package_hash()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "kind", "text"), [
    (BadInput("i", expected="x", received="y", fix="z"), BadInput, "i: expected x, received y; z"),
    (Unsupported("cannot"), Unsupported, "cannot"),
    (ZeroDivisionError("division by zero"), PlauditError, "job 7 failed: ZeroDivisionError: division by zero"),
])
def test_error_of_a_worker_is_the_same_here(error, kind, text):
    told = json.loads(json.dumps(cluster._told(error)))
    ours = cluster._failed("job 7", told)
    assert type(ours) is kind
    assert str(ours) == text
    assert "job 7" in ours.__notes__[0]


class FakeRay:
    """Loses the worker of every job `losses` times, then runs it here."""

    def __init__(self, losses, cpus=2.0):
        self.losses, self.cpus, self.cancelled, self.tries = losses, cpus, [], {}
        kinds = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError", "LocalRayletDiedError")
        self.exceptions = type("exceptions", (), {
            "RayError": Exception, **{k: type(k, (Exception,), {}) for k in kinds}})

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def remote(self, work):
        if isinstance(work, str):
            return (work, self.tries.setdefault(work, 0))
        return self

    def options(self, **options):
        assert options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "1"
        assert options["max_retries"] == 0
        return self

    def wait(self, refs, *, num_returns, timeout):
        return (refs[::-1][:1] if self.cpus else []), []

    def get(self, ref):
        self.tries[ref[0]] += 1
        if self.tries[ref[0]] <= self.losses:
            raise self.exceptions.WorkerCrashedError("the worker died")
        return work_one(ref[0])

    def cancel(self, ref, *, force):
        self.cancelled.append(ref)


def crew(ray, tmp_path, n=4, retries=2):
    plain = [{"i": i} for i in range(n)]
    board = Board(Kept(folder=tmp_path), jobs.name_of(number), plain, "", [f"job {i}" for i in range(n)],
                  lambda done, text: None)
    return board, cluster._Crew(ray, board, retries, code=None)


def test_lost_workers_are_replaced(tmp_path):
    ray = FakeRay(losses=2)
    board, work = crew(ray, tmp_path)
    work.work()
    assert board.results() == [number(i) for i in range(4)]
    assert set(ray.tries.values()) == {3}


def test_job_whose_workers_are_always_lost_is_named(tmp_path):
    ray = FakeRay(losses=3)
    _, work = crew(ray, tmp_path)
    with pytest.raises(PlauditError, match=r"the worker of job \d was lost 3 times.*the same command goes on"):
        work.work()
    work.leave()
    assert ray.cancelled


def test_cluster_without_any_worker_left_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_ALONE_S", 0.05)
    _, work = crew(FakeRay(losses=0, cpus=0), tmp_path)
    with pytest.raises(PlauditError, match="job 0 and others wait"):
        work.work()


# --- with Ray -----------------------------------------------------------------------------------------------


@needs_ray
@STARTS_RAY
def test_worker_killed_in_the_middle_changes_nothing(tmp_path, capfd):
    """Two workers; one is killed with SIGKILL while it works: its job is begun anew, the numbers are the same."""
    plain = [{"i": i} for i in range(6)]
    notes, flag = tmp_path / "notes", tmp_path / "flag"
    notes.mkdir()
    given = [{**job, "note": str(notes), "die_once": str(flag) if job["i"] == 2 else None} for job in plain]
    killed = []

    def kill():
        while not flag.exists():
            time.sleep(0.02)
        pid = next(int(p.name.split("-")[1]) for p in notes.glob("2-*"))
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    threading.Thread(target=kill, daemon=True).start()
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    with Cluster("2") as workers:
        found = run_jobs(number, given, ray=workers, folder=tmp_path / "kept",
                         progress=lambda done, text: seen.append(done))
        assert run_jobs(where, [{}], ray=workers) == [["1", str(Path.cwd())]]
        with pytest.raises(BadInput, match="expected another number, received 1; take another"):
            run_jobs(number, [{"i": 1, "wrong": True}], ray=workers)
        with pytest.raises(PlauditError, match="breaks 1 of 1 failed: ZeroDivisionError"):
            run_jobs(breaks, [{"i": 0}], ray=workers)
        with pytest.raises(PlauditError, match="the worker of doomed was lost 2 times") as lost:
            run_jobs(number, [{"i": 0}, {"i": 1, "die": True}], ray=workers, folder=tmp_path / "lost", retries=1,
                     names=["fine", "doomed"])
    assert "goes on" in str(lost.value)
    assert found == run_jobs(number, plain)
    assert killed
    assert len(list(notes.glob("2-*"))) == 2
    assert seen == pytest.approx([k / 6 for k in range(1, 7)])
    assert run_jobs(number, given, folder=tmp_path / "kept") == found
    assert len(list(notes.iterdir())) == 7
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr() == ("", "")
