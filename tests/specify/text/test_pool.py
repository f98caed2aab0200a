"""Workers: a call that hangs, crashes, leaves or eats memory costs one answer, and nothing is left behind."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.specify.text import pool_functions as functions
from tests.specify.text import threaded_module

from plaudit.core.errors import BadInput
from plaudit.specify.text.pool import Pool

LIMIT_S = 0.4
ROOT = Path(__file__).parents[3]
WITHOUT_TORCH = f"""
import os, sys, time, types
sys.path.insert(0, {str(ROOT)!r})
for name in ("plaudit.specify", "plaudit.specify.text"):  # packages without what they import, to start at once
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [os.path.join({str(ROOT / "src")!r}, *name.split("."))]
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, within_s=5.0):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def pool():
    with Pool(workers=2, time_limit_s=LIMIT_S, memory_mb=200) as pool:
        yield pool.start(functions.double)


def test_answers_come_in_order_and_from_several_processes(pool):
    outcomes = pool.map(functions.slow, [{"x": i, "seconds": 0.1 * (i == 0)} for i in range(8)])
    assert [o.value for o in outcomes] == list(range(8)) and outcomes[0].seconds >= 0.1 > outcomes[1].seconds
    homes = pool.map(functions.where, [{"x": 0}] * 40)
    pids = {o.value[0] for o in homes}
    assert 1 <= len(pids) <= 2 and os.getpid() not in pids | {o.value[1] for o in homes}


@pytest.mark.parametrize(("how", "kind", "why"), [
    ("loop", "time limit", "time limit: no answer within 0.4 s"),
    ("native", "time limit", "time limit: no answer within 0.4 s"),
    ("stubborn", "time limit", "time limit: no answer within 0.4 s"),
    ("crash", "worker died", "worker died: signal SIGSEGV"), ("leave", "worker died", "worker died: exit status 7"),
    ("exit", "raised", "raised SystemExit: 3"), ("raise", "raised", "raised KeyError: 'boom'"),
    ("memory", "memory limit", "memory limit: it took more than 200 MB"),
    ("strange", "raised", "raised TypeError: an answer is numbers")])
def test_bad_behaviour_costs_one_answer(pool, how, kind, why):
    before = pool.counts
    began = time.monotonic()
    bad, good = pool.map(functions.misbehave, [{"how": how}, {"how": "well"}])
    assert bad.value is None and bad.why.startswith(why)
    assert good.value == {"right": 1.0} and not good.why
    assert time.monotonic() - began < LIMIT_S + 3
    assert pool.counts - before == {kind: 1, "answered": 1}
    assert pool.map(functions.double, [{"x": 4}])[0].value == 8, "the pool goes on"


def test_a_limit_inside_the_process_does_not_stop_native_code():
    """The broken variant that the pool is there to replace."""
    code = ("from plaudit.core.limits import call_within; from tests.specify.text.pool_functions import misbehave; "
            "call_within(0.2, lambda: misbehave('native'))")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", code], timeout=3, check=False)


def test_killing_a_worker_kills_what_it_started(pool, tmp_path):
    marker = tmp_path / "pid"
    assert pool.submit(functions.misbehave, how="child", marker=str(marker)).result().why.startswith("time limit")
    assert gone([int(marker.read_text())])


def test_futures_let_the_caller_do_something_else(pool):
    future = pool.submit(functions.slow, x=5, seconds=0.2)
    assert not future.done()
    assert future.result(timeout=5).value == 5
    assert pool.submit(functions.waits, x=3).result().value == 3, "async functions too"


def test_objects_and_partials_travel(pool):
    assert pool.map(functions.Scaled(3), [{"x": 2}])[0].value == 6
    assert pool.map(functools.partial(functions.slow, seconds=0), [{"x": 2}])[0].value == 2
    lost = pool.map(functions.double, [{"x": lambda: 0}, {"x": 1}])
    assert "cannot be sent to a worker" in lost[0].why and lost[1].value == 2


def test_what_cannot_be_found_by_another_process_is_refused_before_any_work(pool):
    def nested(x):
        return x

    with pytest.raises(BadInput, match=r"function at the top of a file.*nested.*functools\.partial"):
        pool.map(nested, [{"x": 1}])
    with pytest.raises(BadInput, match="<lambda>"):
        pool.submit(lambda x: x, x=1)
    for wrong in ({"workers": 0}, {"time_limit_s": 0}, {"time_limit_s": float("inf")}, {"memory_mb": 0}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Pool(**wrong)


def test_a_module_that_starts_threads_is_not_forked():
    with Pool(workers=1, time_limit_s=5) as pool:
        assert [o.value for o in pool.map(threaded_module.triple, [{"x": 1}, {"x": 2}])] == [3, 6]
        assert pool._engine is not None and pool._engine._import_in == "worker"


def test_a_module_that_cannot_be_imported_says_so_at_each_call(tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text("import os\nif os.environ.get('BREAK'): raise RuntimeError('no disk')\n"
                                        "def f(x): return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import breaks  # type: ignore[import-not-found]

    monkeypatch.setenv("BREAK", "1")
    with Pool(workers=1, time_limit_s=2) as pool:
        assert pool.map(breaks.f, [{"x": 1}])[0].why == "raised RuntimeError: no disk"
        assert pool.map(functions.double, [{"x": 1}])[0].value == 2


def test_closing_leaves_no_process_and_the_pool_can_be_used_again():
    pool = Pool(workers=2, time_limit_s=30)
    homes = {o.value[i] for o in pool.map(functions.where, [{"x": 0}] * 4) for i in (0, 1)} | set(pool.pids)
    stuck = pool.submit(functions.misbehave, how="native")
    time.sleep(0.1)
    pool.close()
    assert stuck.result(timeout=5).why == "the pool was closed" and gone(homes)
    assert pool.map(functions.double, [{"x": 2}])[0].value == 4
    pool.close()


@pytest.mark.parametrize("how", ["SIGKILL", "exit"])
def test_no_orphans_when_the_caller_goes(tmp_path, how):
    script = tmp_path / "caller.py"
    script.write_text(f"""{WITHOUT_TORCH}
from plaudit.specify.text.pool import Pool
from tests.specify.text import pool_functions as f
def here(x): return [os.getpid(), os.getppid()]
if __name__ == "__main__":
    pool = Pool(workers=2, time_limit_s=60)
    seen = {{p for o in pool.map(here, [{{"x": 0}}] * 6) for p in o.value}} | set(pool.pids)
    for _ in range(2): pool.submit(f.misbehave, how="native")
    time.sleep(0.2)
    print(*seen, flush=True)
    if {how!r} == "SIGKILL": os.kill(os.getpid(), 9)
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) >= 2, done.stderr
    assert done.returncode == (-signal.SIGKILL if how == "SIGKILL" else 0)
    assert gone(pids)


def test_a_script_without_a_guard_says_what_to_write(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(WITHOUT_TORCH + "from plaudit.specify.text.pool import Pool\ndef f(x): return x\n"
                      "print(Pool(workers=1).map(f, [{'x': 1}])[0].why)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert 'if __name__ == "__main__"' in done.stdout


def test_a_function_behind_the_guard_of_a_script_is_refused_before_it_is_asked(tmp_path):
    script = tmp_path / "guarded.py"
    script.write_text(WITHOUT_TORCH + """from plaudit.specify.text.pool import Pool
def top(x): return x
if __name__ == "__main__":
    def nested(x): return x
    class Caller:
        def __call__(self, x): return x
    with Pool(workers=1) as pool:
        print(pool.map(top, [{"x": 1}])[0].value)
        for fn in (nested, Caller()):
            try:
                pool.map(fn, [{"x": 1}])
            except ValueError as error:
                print(error)
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert lines[0] == "1" and len(lines) == 3, done.stderr
    assert all("move it to the top of the file" in line for line in lines[1:])
    assert "nested" in lines[1] and "Caller" in lines[2]



def test_the_loss_of_the_keeper_costs_only_what_was_on_its_way():
    with Pool(workers=1, time_limit_s=20) as pool:
        keeper = pool.map(functions.where, [{"x": 0}])[0].value[1]
        lost = pool.submit(functions.slow, x=1, seconds=10)
        time.sleep(0.1)
        os.kill(keeper, signal.SIGKILL)
        assert lost.result(timeout=10).why.startswith("worker died")
        assert pool.map(functions.double, [{"x": 3}])[0].value == 6


def test_a_pool_travels_without_its_processes(pool):
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301
    assert again.options() == pool.options() and again.pids == []


def test_a_forked_process_gets_workers_of_its_own(pool):
    pool.map(functions.double, [{"x": 1}])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(pool.map(functions.double, [{"x": 21}])[0].value).encode())
        os._exit(0)
    assert os.read(read, 10) == b"42"
    os.waitpid(child, 0)
    assert pool.map(functions.double, [{"x": 2}])[0].value == 4
