"""`plaudit audit`: one clear line for what goes wrong, the right exit code, nothing half-written, nothing lost."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from plaudit.auditing.audit import Event
from plaudit.auditing.check import register, unregister
from plaudit.auditing.finding import Finding
from plaudit.auditing.report import files
from plaudit.cli.audit import AuditArgs, first_words
from plaudit.cli.interrupts import Interrupts
from plaudit.cli.main import main

BOAT = ("--env", "boat.py:Boat", "--steps", "1000")


@dataclass(frozen=True)
class Answers:
    """A check that finds what the test says, without any search."""

    name: str = "answers"
    question: str = "What does the test say?"
    severity: str = "high"

    def run(self, context):
        return [Finding(check=self.name, severity=self.severity, title="it pays 3 and is worth 1")]


@pytest.fixture
def finds():
    def plug(severity: str) -> None:
        register(Answers(severity=severity))

    yield plug
    unregister("answers")


@pytest.fixture(autouse=True)
def page_in_no_time(monkeypatch):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text


# --- what goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "said"), [
    (["nope.py:f", *BOAT], "a file that exists"),
    (["boat.py:progres", *BOAT], "did you mean progress"),
    (["boat.py:progress"], "add --env"),
    (["boat.py:progress", "--env", "CartPol-v1"], "did you mean CartPole-v1"),
    (["boat.py:progress", "--env", "Adroit-v1"], "pip install"),
    (["boat.py:progress", *BOAT, "--env-kwargs", "{limit: 3}"], "JSON"),
    (["boat.py:progress", *BOAT, "--env-kwargs", "[3]"], "a JSON object"),
    (["boat.py:progress", *BOAT, "--env-kwargs", '{"depth": 3}'], "depth"),
    (["boat.py:progress", *BOAT, "--intent", "speed"], "info:KEY"),
    (["boat.py:progress", *BOAT, "--intent", "info:speed"], "it reports is_success, x"),
    (["boat.py:fails", *BOAT], "KeyError: 'velocity' (boat.py line"),
    (["boat.py:wrong_shape", *BOAT], "shape"),
    (["boat.py:misnamed", *BOAT], "rename it to 'obs'"),
    (["boat.py:leaves", *BOAT], "SystemExit: 3"),
    (["boat.py:hangs", *BOAT, "--time-limit", "0.3"], "did not answer within 0.3 s"),
    (["boat.py:hangs_and_catches", *BOAT, "--time-limit", "0.3"], "did not answer within 0.3 s"),
    (["boat.py:StepFails", "--steps", "1000"], "step 7 of row 0 (episode seed 0) raised RuntimeError: the motor broke"),
    (["boat.py:ResetFails", "--steps", "1000"], "no water"),
    (["boat.py:InitFails", "--steps", "1000"], "no file boat.xml"),
    (["boat.py:progress", *BOAT, "--out", "boat.py"], "the file boat.py"),
    (["boat.py:progress", *BOAT, "--out", "."], "nothing was touched"),
    (["boat.py:progress", *BOAT, "--only", "contrat"], "names out of contract"),
    (["boat.py:progress", *BOAT, "--policy", "nope.zip"], "nope.zip"),
    (["boat.py:progress", *BOAT, "--episodes", "nope.safetensors"], "no such file"),
    (["boat.py:progress", *BOAT, "--steps", "-1"], "budget.steps"),
    (["boat.py:progress", "--env", "boat.py:Boat", "--budget", "nan"], "seconds"),
], ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else "")
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(here, run, words, said):
    before = sorted(p.name for p in here.iterdir())
    ran = run("audit", *words)
    assert ran.code == 2 and said in ran.err and one_line(ran.err) and ran.err.startswith("error: ")
    after = sorted(p.name for p in here.iterdir() if p.name != "__pycache__")
    assert after == [n for n in before if n != "__pycache__"]


def test_an_environment_that_hangs_is_given_up(run):
    began = time.monotonic()
    ran = run("audit", "boat.py:Hangs", "--steps", "1000", "--patience", "0.5")
    assert ran.code == 2 and one_line(ran.err) and "nothing came back for 0.5 s" in ran.err
    assert time.monotonic() - began < 20


def test_an_unexpected_error_is_one_line_too(run, monkeypatch):
    monkeypatch.setattr("plaudit.auditing.audit.recognise", lambda *a, **k: {}["a bug of ours"])
    ran = run("audit", "CartPole-v1")
    assert ran.code == 2 and one_line(ran.err) and "PLAUDIT_LOG=debug" in ran.err
    monkeypatch.setenv("PLAUDIT_LOG", "debug")
    with pytest.raises(KeyError):
        run("audit", "CartPole-v1")


# --- exit codes and files ----------------------------------------------------------------------------


@pytest.mark.parametrize(("severity", "fail_on", "code"), [
    ("high", "high", 1), ("high", "low", 1), ("high", "never", 0), ("medium", "high", 0), ("medium", "medium", 1),
    ("low", "medium", 0), ("low", "low", 1)])
def test_the_exit_code_is_1_when_a_finding_reaches_fail_on(run, finds, severity, fail_on, code):
    finds(severity)
    ran = run("audit", "boat.py:progress", *BOAT, "--only", "answers", "--fail-on", fail_on)
    assert ran.code == code and not ran.err
    assert "it pays 3 and is worth 1" in ran.out


def test_the_report_lies_in_the_next_numbered_folder_or_where_out_says(here, run, finds):
    finds("low")
    for name in ("001", "002"):
        assert f"report   audits/{name}/report.html" in run("audit", "boat.py:progress", *BOAT, "--only", "answers").out
    run("audit", "boat.py:progress", *BOAT, "--only", "answers", "--out", "here/and/there")
    assert {p.name for p in Path("here/and/there").iterdir()} == {"report.html", "report.json", "report.sarif",
                                                                  "junit.xml"}


def test_it_says_at_once_what_was_named_and_then_what_it_is(run, finds):
    finds("low")
    lines = run("audit", "boat.py:progress", *BOAT, "--only", "answers").out.splitlines()
    assert lines[0] == ("plaudit audit: boat.py: progress(obs, next_obs) on boat.py:Boat; intent: looked for in info; "
                        "checks: answers")
    assert lines[1].startswith("reward function progress on Boat; intent: episodes end with is_success (found in info)")


@pytest.mark.parametrize(("target", "words"), [
    ("boat.py:Boat", "boat.py: class Boat"), ("boat.py:composed", "boat.py:composed"), ("no.py:f", "no.py:f"),
    ("CartPole-v1", "the environment CartPole-v1 with its own reward"), ("math:sqrt", "math:sqrt")])
def test_the_first_words_run_no_code(here, target, words):
    assert first_words(AuditArgs(target=target)).startswith(f"plaudit audit: {words}; intent")


# --- a full disk -------------------------------------------------------------------------------------


def test_a_full_disk_costs_neither_the_verdict_nor_the_report(here, run, finds, monkeypatch, tmp_path_factory):
    finds("high")
    elsewhere = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))

    def write(path, text, real=files.write_text):
        if here in Path(path).absolute().parents:
            raise OSError(28, "No space left on device")
        real(path, text)

    monkeypatch.setattr(files, "write_text", write)
    ran = run("audit", "boat.py:progress", *BOAT, "--only", "answers")
    assert ran.code == 2 and one_line(ran.err) and "No space left on device" in ran.err
    assert "it pays 3 and is worth 1" in ran.out, "the verdict is told before anything is written"
    (kept,) = elsewhere.iterdir()
    assert str(kept) in ran.err and json.loads((kept / "report.json").read_text())["verdict"]["safe"] is False
    assert not list((here / "audits").iterdir())


def test_a_disk_that_is_full_everywhere_leaves_nothing(here, run, finds, monkeypatch, tmp_path_factory):
    finds("high")
    elsewhere = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.setattr("os.fsync", full)
    ran = run("audit", "boat.py:progress", *BOAT, "--only", "answers")
    assert ran.code == 2 and one_line(ran.err) and "No space left" in ran.err and "it pays 3" in ran.out
    assert not list(elsewhere.iterdir()) and not list((here / "audits").iterdir())


def full(*_):
    raise OSError(28, "No space left on device")


# --- Ctrl-C ------------------------------------------------------------------------------------------


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Reads the output up to the line with some text."""
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came:\n{seen}{process.stderr.read()}")


@pytest.mark.slow(reason="a process of its own imports torch, and draws a page")
def test_ctrl_c_in_the_middle_keeps_a_report_that_says_so(here, start):
    process = start("audit", "boat.py:progress", "--env", "boat.py:Boat", "--budget", "600")
    wait_for(process, "… search reward")
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and one_line(err) and "interrupted" in err
    data = json.loads((here / "audits" / "001" / "report.json").read_text())
    assert data["interrupted"] is True and "nterrupted" in data["verdict"]["sentence"]
    assert {c["why"] for c in data["checks"]} == {"interrupted"} and "audits/001/report.html" in out
    assert [p.name for p in (here / "audits").glob(".*")] == [".searches"]


@pytest.mark.slow(reason="a process of its own imports torch")
def test_ctrl_c_before_anything_is_known_writes_nothing(here, start):
    process = start("audit", "boat.py:Hangs")
    wait_for(process, "plaudit audit")
    time.sleep(6.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted; nothing was written" in err and "Traceback" not in err
    assert not (here / "audits").exists()


@pytest.mark.parametrize("module", ["llvmlite.binding", "another"])
def test_ctrl_c_that_a_callback_of_native_code_swallows_comes_again(module, monkeypatch, capsys):
    swallowed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: swallowed.append(it.exc_type))
    ring = types.FunctionType((lambda: signal.raise_signal(signal.SIGINT)).__code__,
                              {"__name__": module, "signal": signal})
    with Interrupts() as interrupts:
        interrupts(Event(kind="progress"))
        ctypes.CFUNCTYPE(None)(ring)()
        with pytest.raises(KeyboardInterrupt):
            interrupts(Event(kind="progress"))
        interrupts(Event(kind="judging"))
        interrupts(Event(kind="note"))
    assert swallowed == ([] if module.startswith("llvmlite") else [KeyboardInterrupt])


def test_ctrl_c_while_the_report_is_written_waits_for_it(here, run, finds, monkeypatch):
    finds("low")
    rings = []

    def page(report):
        if not rings:
            rings.append(signal.raise_signal(signal.SIGINT))
        return "<html>"

    monkeypatch.setattr("plaudit.auditing.report.page.page", page)
    ran = run("audit", "boat.py:progress", *BOAT, "--only", "answers")
    assert ran.code == 130 and len(rings) == 1 and "Traceback" not in ran.err
    assert json.loads((here / "audits" / "001" / "report.json").read_text())["interrupted"] is False


def test_a_second_ctrl_c_while_it_is_written_drops_it_and_leaves_nothing(here, run, finds, monkeypatch):
    finds("low")

    def write(path, text):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(files, "write_text", write)
    ran = run("audit", "boat.py:progress", *BOAT, "--only", "answers")
    assert ran.code == 130 and "nothing was written" in ran.err and not list((here / "audits").iterdir())


@pytest.mark.slow(reason="a process of its own imports torch, and is waited for")
def test_code_that_swallows_even_the_interrupt_is_cut_off_and_the_report_kept(here, start):
    (here / "stuck.py").write_text(
        "import time\ncalls = []\n\ndef stuck(next_obs):\n    calls.append(1)\n    while len(calls) > 30:\n"
        "        try:\n            time.sleep(1)\n        except BaseException:\n            pass\n"
        "    return next_obs[..., 0]\n")
    process = start("audit", "stuck.py:stuck", *BOAT, "--steps", "20000", "--patience", "3", "--time-limit", "900")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 2 and "nothing came back for 3 s" in err and one_line(err)
    data = json.loads((here / "audits" / "001" / "report.json").read_text())
    assert data["interrupted"] is True and "audits/001/report.html" in out


def test_ray_is_handed_on_and_read_before_any_work(here, monkeypatch, capsys):
    given = []
    monkeypatch.setattr("plaudit.auditing.audit.audit", lambda *args, **options: given.append(options["ray"]) or 1 / 0)
    for words in ([], ["--ray"], ["--ray", "2"], ["--ray", "a:1", "b:2"]):
        main(["audit", "CartPole-v1", "--intent", "env", *words])
    assert given == [None, True, "2"]
    assert "--ray: expected at most one address" in capsys.readouterr().err
