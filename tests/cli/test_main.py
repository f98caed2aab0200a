"""`plaudit`: help at once, near misses named, witnesses replayed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest

from plaudit.auditing.audit import audit
from plaudit.auditing.check import register, unregister
from plaudit.auditing.finding import Finding
from plaudit.auditing.witness import Witness
from plaudit.cli.main import COMMANDS
from plaudit.optimize.behaviours import Behaviour


def test_help_lists_the_commands_without_importing_torch():
    code = "import sys; from plaudit.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    began = time.monotonic()
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in shown.stdout for name in COMMANDS) and "example: plaudit audit" in shown.stdout
    assert time.monotonic() - began < 5, "0.1 s on a machine that does nothing else"


def test_the_help_of_audit_shows_examples_and_needs_no_torch(run):
    code = ("import sys\nfrom plaudit.cli.main import main\ntry:\n    main(['audit', '--help'])\n"
            "except SystemExit as end:\n    assert end.code == 0\nassert 'torch' not in sys.modules")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={
        **__import__("os").environ, "COLUMNS": "100"}).stdout
    assert shown.count("plaudit audit") >= 3 and "--intent SPEC" in shown and "None" not in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(("words", "said"), [(["audti", "x"], "did you mean audit?"), (["fly"], "the commands are")])
def test_a_wrong_command_names_the_right_one(run, words, said):
    ran = run(*words)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1


def test_no_words_and_version(run):
    assert run().code == 2 and run("--version").out.startswith("plaudit ")


class Points:
    name, question = "points", "Where?"

    def run(self, context):
        b = Behaviour(name="random actions", origin="random", policy=None, episodes=context.random,
                      seeds=context.seeds.child("random").integers(16))
        return [Finding(check="points", severity="low", title="there", witness=Witness.of(context, b, title="there"))]


@pytest.fixture
def witness(here, monkeypatch):
    """A witness file of a small audit."""
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
    register(Points())
    try:
        audit("boat.py:terms", env="boat.py:Boat", intent="info:x", steps=30_000, only=["points"]).save("out")
    finally:
        unregister("points")
    return "out/witness-01.json"


def test_replay_prints_reward_terms_and_intent_step_by_step(run, witness):
    ran = run("replay", witness, "--all")
    assert ran.code == 0 and not ran.err
    head, rows = ran.out.splitlines()[2], ran.out.splitlines()[3:23]
    assert head.split() == ["step", "action", "reward", "progress", "time", "paid", "so", "far", "intent", "so", "far"]
    assert [int(r.split()[0]) for r in rows] == list(range(20))
    assert "total reward" in ran.out and "intent" in ran.out.splitlines()[-1]


def test_replay_fails_when_other_numbers_come_out(here, run, witness):
    changed = (here / "boat.py").read_text().replace('"time": -0.01', '"time": -0.02')
    (here / "boat.py").write_text(changed)
    assert run("replay", witness).code == 2
    ran = run("replay", witness, "--trust")
    assert ran.code == 1 and "has changed since" in " ".join(ran.out.split())


@pytest.mark.parametrize("name", ["nope.json", "boat.py", "out"])
def test_what_is_no_witness_is_one_line(here, run, witness, name):
    ran = run("replay", name)
    assert ran.code == 2 and ran.err.count("\n") == 1 and name in ran.err


def test_a_gif_is_written_where_the_task_draws(here, run):
    shutil.rmtree("out", ignore_errors=True)
    register(Points())
    try:
        audit("CartPole-v1", intent="env", steps=1000, only=["points"]).save("out")
    finally:
        unregister("points")
    ran = run("replay", "out/witness-01.json", "--gif", "film.gif")
    assert ran.code == 0 and "wrote film.gif" in ran.out and (here / "film.gif").read_bytes()[:3] == b"GIF"
