"""Code that a model wrote: cut off, limited, and scored by what it really passes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

import pytest

from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.tokens import of_texts
from plaudit.specify.text import sandbox
from plaudit.specify.text.code import CodeTests
from plaudit.specify.text.sandbox import CodeLimits, isolation, run_python, said_aloud

TIGHT = CodeLimits(wall_s=1.0, cpu_s=20, memory_mb=200, file_mb=1, open_files=16)


def test_tests_calls_and_scripts_give_what_the_code_does():
    run = run_python("def f(x):\n    print('hi')\n    return [x, {'a': x}]", ["assert f(1)[0] == 1", "f(1)[7]", "g()"],
                     calls=[("f", [3]), ("f", []), ("nothing", [])])
    assert run.status == "finished" and run.passed == 1 and run.values[0] == [3, {"a": 3}]
    assert run.tests == (None, "IndexError: list index out of range", "NameError: name 'g' is not defined")
    assert run.failures[0] is None and "TypeError" in run.failures[1] and "KeyError" in run.failures[2]
    assert run.stdout == "hi\n" * 3 and 0 < run.seconds < 10
    script = run_python("if __name__ == '__main__':\n    print(sum(map(int, input().split())))", stdin="1 2 3\n")
    assert script.stdout == "6\n" and script.status == "finished"


@pytest.mark.parametrize(("code", "status", "failure"), [
    ("import time; time.sleep(60)", "time limit", "wall-clock"),
    ("x = bytearray(10**9)", "memory limit", "MemoryError"), ("import os; os._exit(0)", "left early", "status 0"),
    ("import ctypes; ctypes.string_at(0)", "killed", "SIGSEGV"), ("1 / 0", "raised", "ZeroDivisionError"),
    ("def f(:", "raised", "SyntaxError"), ("import sys; sys.exit(0)", "raised", "SystemExit"),
    ("open('big', 'w').write('x' * 2_000_000)", "raised", "File too large"),
    ("fs = [open('answer.py') for _ in range(99)]", "raised", "Too many open files")])
def test_what_code_may_not_take_ends_it_with_a_name(code, status, failure):
    run = run_python(code, ["pass"], limits=TIGHT)
    assert run.status == status and failure in run.failure and run.tests != (None,)


def test_processor_time_ends_a_loop():
    run = run_python("while True: pass", ["pass"], limits=CodeLimits(wall_s=60, cpu_s=1))
    assert (run.status, run.failure) == ("cpu limit", "it used up its 1 s of processor time") and run.seconds < 60


def test_the_network_is_cut_where_it_is_said_to_be():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 1):
            pass  # from here it can be reached
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)"
        reached = run_python(code).status == "finished"
    assert reached == (isolation()["network"] == "not cut off") and "network: " in said_aloud()


def test_files_outside_are_out_of_reach_where_it_is_said_so(tmp_path):
    secret = tmp_path / "gold.txt"
    secret.write_text("42")
    tries = {"read": f"open({str(secret)!r}).read()", "write": f"open({str(tmp_path / 'new')!r}, 'w')",
             "list": f"import os; os.listdir({str(tmp_path)!r})", "delete": f"import os; os.unlink({str(secret)!r})"}
    reached = {name: run_python(code).status == "finished" for name, code in tries.items()}
    assert reached == dict.fromkeys(tries, isolation()["files"] == "not cut off")
    assert run_python("open('own', 'w').write('x'); assert open('own').read() == 'x'").status == "finished"


def test_nothing_of_ours_is_in_its_environment(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    run = run_python("import os; print(dict(os.environ)); print(os.getcwd())")
    assert "hunter2" not in run.stdout and "plaudit-code-" in run.stdout
    assert not os.path.exists(run.stdout.split()[-1])


def test_what_it_started_ends_with_it():
    code = ("import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n"
            "        time.sleep(987)\n        os._exit(0)\n")
    if isolation()["processes"] == "sees the others":
        pytest.skip("without a namespace of processes, one that leaves its session is not followed")
    run = run_python(code + "print(os.getcwd())", ["pass"])

    def left():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                found += [pid] if os.readlink(f"/proc/{pid}/cwd").startswith(run.stdout.strip()) else []
        return found

    end = time.monotonic() + 5
    while left() and time.monotonic() < end:
        time.sleep(0.02)
    assert run.stdout.strip() and not left()


@pytest.mark.parametrize("trick", [
    "import os\nos._exit(0)",  # leaves with success
    "print('[null, true]')",
    "import os\nfor fd in range(3, 16):\n    try: os.write(fd, b'{\"test\": 0, \"failure\": null}\\n')\n"
    "    except OSError: pass",  # writes its own verdict into every pipe
    "import builtins\nclass E:\n    def __eq__(self, o): return True\ndef f(x): return E()",  # equals everything
    "import sys\nsys.exit = lambda *a: None\ndef f(x): return None"])
def test_tricks_do_not_pass_a_call_that_is_compared_out_here(trick):
    reward = CodeTests(limits=TIGHT)
    assert reward.check(trick, [{"call": "f", "args": [2], "returns": 4}]) == [False]
    assert reward.check("def f(x): return 2 * x", [{"call": "f", "args": [2], "returns": 4}]) == [True]


def test_statements_share_a_process_with_the_code_which_can_fool_them():
    """The broken variant: why calls and outputs are compared out here."""
    fool = "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()"
    assert CodeTests(limits=TIGHT).check(fool, ["assert f(2) == 4"]) == [True]


def test_the_reward_pays_for_passing_tests_and_knows_what_it_does_not_know(caplog):
    answers = ["```python\ndef f(x): return x + 1\n```", "def f(x): return 2", "import time; time.sleep(9)",
               "import os; os._exit(0)", "def f(x): return x + 1"]
    rows = of_texts(["increment"] * 5, answers, tests=[["assert f(1) == 2", "assert f(2) == 3"]] * 4 + [[]])
    with caplog.at_level(logging.WARNING):
        score = CodeTests(limits=TIGHT, count="share").score(rows)
    value, known = score.returns()
    assert known.tolist() == [True, True, False, True, False] and value[known].tolist() == [1.0, 0.5, 0.0]
    assert any("time limit" in r for r in score.why) and any("at least one test" in r for r in score.why)
    assert said_aloud() in caplog.text, "the isolation in force is said"
    assert CodeTests(limits=TIGHT, late="failed").score(rows).returns()[0][2] == 0
    whole = CodeTests(limits=TIGHT).score(rows).returns()[0]
    assert whole[:2].tolist() == [1.0, 0.0]
    typed = [{"stdin": "4", "stdout": "8\n"}, {"stdin": "5", "stdout": "9"}]
    assert CodeTests().check("print(int(input()) * 2)", typed) == [True, False]


@pytest.mark.parametrize("test, key", [
    ({"call": "f", "arg": [1], "returns": 2}, "'arg'"), ({"call": "f", "inputs": [1], "returns": 2}, "'inputs'"),
    ({"call": "f", "args": [1], "expected": 2}, "'expected'"), ({"call": "f", "args": [1]}, "'returns'"),
    ({"call": "f", "args": "ab", "returns": 2}, "'args'"), ({"stdin": "1"}, "'stdout'"),
    ({"stdin": "1", "stdout": "2", "input": "1"}, "'input'"), ({"assert": "f(1) == 2"}, "statements"),
    (7, "statements")])
def test_a_test_that_is_misspelt_is_unknown_and_its_key_is_named(test, key):
    score = CodeTests().score(of_texts(["increment"], ["def f(x): return x + 1"], tests=[[test]]))
    assert not score.known.any() and key in next(iter(score.why))



def test_wrong_options_and_missing_isolation_are_refused(monkeypatch):
    with pytest.raises(BadInput, match="workers"):
        CodeTests(workers=0)
    for wrong in ({"count": "most"}, {"late": "maybe"}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            CodeTests(**wrong)
    with pytest.raises(BadInput, match=r"limits\.cpu_s"):
        CodeLimits(cpu_s=0)
    with pytest.raises(Exception, match="require"):
        run_python("pass", require=["magic"])
    monkeypatch.setattr(sandbox, "isolation", lambda: {"network": "not cut off"})
    with pytest.raises(Unsupported, match="network: not cut off on this system"):
        CodeTests(require=["network"])
    monkeypatch.setattr(sandbox.sys, "executable", "/nowhere/python")
    with pytest.raises(PlauditError, match="could not be started"):
        run_python("pass")
    assert not CodeTests().score(of_texts(["p"], ["x = 1"], tests=["pass"])).known.any()
