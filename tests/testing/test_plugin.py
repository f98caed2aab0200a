"""Audits as tests of pytest: a sound reward passes, a flawed one fails with all one needs, a start costs nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import plaudit
from plaudit.cli.main import main
from plaudit.testing import assert_sound
from plaudit.testing.place import RUNNING, Running

ROOT = Path(__file__).parents[2]
WORLD = ROOT / "tests" / "auditing" / "boat_world.py"
CHECKS = '''
from dataclasses import dataclass
import pytest
from plaudit.auditing.check import register, unregister
from plaudit.auditing.finding import Finding
from plaudit.auditing.witness import Witness


@dataclass(frozen=True)
class Distance:
    """Calls a reward flawed that pays for standing still, by random episodes: no search, so it takes no time."""

    name: str = "answers"
    question: str = "Does standing still pay?"

    def run(self, context):
        if float(context.paid(context.wandering).mean()) < 10:
            return []
        title = "standing still pays"
        return [Finding(check=self.name, kind="still", severity="high", title=title, advice="Pay for moving.",
                        witness=Witness.of(context, context.wandering, title=title, check=self.name, row=0))]


@pytest.fixture(autouse=True, scope="session")
def answers():
    register(Distance())
    yield
    unregister("answers")


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
'''
TESTS = '''
from boat import Boat, progress
from plaudit.testing import assert_sound

OPTIONS = {"intent": "info:is_success", "steps": 30_000, "only": ["answers"]}


def alive(next_obs):
    return 1.0 + 0 * next_obs[..., 0]


def test_sound():
    assert_sound(progress, Boat, **OPTIONS)


def test_flawed():
    assert_sound(alive, Boat, **OPTIONS)


def test_allowed():
    assert_sound(alive, Boat, allow=["answers: still"], **OPTIONS)


def test_allowed_for_another_claim():
    assert_sound(alive, Boat, allow=["answers: loop"], **OPTIONS)
'''


@dataclass(frozen=True)
class Ran:
    """What a run of pytest, or of our command line, left."""

    code: int
    out: str


def in_process(call: Callable[[], int]) -> Ran:
    """A run inside this process, which has imported torch already."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = int(call())
    return Ran(code, out.getvalue())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of somebody's: a world, rewards, and tests of them; and what pytest said of it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(WORLD, folder / "boat.py")
    (folder / "conftest.py").write_text(CHECKS)
    (folder / "test_rewards.py").write_text(TESTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("GITHUB_ACTIONS", "true")
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)
        yield folder, in_process(lambda: pytest.main([
            str(folder), "-c", os.devnull, "--rootdir", str(folder), "-p", "plaudit.testing.plugin", "-v", "-p",
            "no:cacheprovider", "-p", "no:faulthandler", "--import-mode=importlib", "--plaudit-out", "reports",
            f"--basetemp={folder / 'tmp'}"]))


def test_a_sound_reward_passes_and_a_flawed_one_fails(project):
    _, ran = project
    ends = dict(re.findall(r"::(test_\w+) (PASSED|FAILED)", ran.out))
    assert ends == {"test_sound": "PASSED", "test_flawed": "FAILED", "test_allowed": "PASSED",
                    "test_allowed_for_another_claim": "FAILED"}, ran.out


def test_the_failure_names_finding_witness_and_a_command_that_replays_it(project):
    folder, ran = project
    said = "\n".join(line.removeprefix("E").strip() for line in ran.out.splitlines() if line.startswith("E "))
    for words in ("alive on Boat is not sound. Not safe to optimise: standing still pays", "[high] answers: still",
                  "Pay for moving.", "witness: random actions, 20 steps, reward 20, intent", " steps, seed 0"):
        assert words in said, said
    (command,) = set(re.findall(r"replay:\s+plaudit (replay .*test_flawed/witness-01.json --trust)", said))
    again = in_process(lambda: main(shlex.split(command)))
    assert again.code == 0 and "total reward 20" in again.out, again.out


def test_reports_of_all_tests_lie_where_the_option_says(project):
    folder, _ = project
    assert sorted(p.name for p in (folder / "reports").iterdir()) == [
        f"test_rewards.py-{n}" for n in ("test_allowed", "test_allowed_for_another_claim", "test_flawed", "test_sound")]
    data = json.loads((folder / "reports" / "test_rewards.py-test_allowed" / "report.json").read_text())
    assert data["findings"][0]["accepted"]["reason"] == "allowed by the test"


def test_github_gets_a_mark_on_the_line_of_the_reward(project):
    _, ran = project
    marks = [x for x in ran.out.splitlines() if x.startswith("::error ")]
    line = 1 + TESTS.split("def alive")[0].count("\n")
    assert len(marks) == 2 and all(f"file=test_rewards.py,line={line}," in m for m in marks)


# --- without pytest, or without the plug-in ----------------------------------------------------------


def drifts(next_obs):
    return next_obs[..., 0].abs()


def test_without_the_plugin_it_fails_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    token = RUNNING.set(None)
    try:
        with pytest.warns(UserWarning, match="Cannot tell"):
            assert_sound(drifts, "CartPole-v1", intent="env", steps=1000, only=["distance"])
        with pytest.raises(AssertionError, match="Cannot tell whether it is safe") as failed:
            assert_sound(drifts, "CartPole-v1", intent="env", steps=1000, only=["distance"], strict=True)
    finally:
        RUNNING.reset(token)
    (folder,) = tmp_path.iterdir()
    assert f"report:  {folder / 'report.html'}" in str(failed.value)


@pytest.mark.parametrize(("options", "said"), [
    ({"allow": ["exploits"]}, "checks out of contract"), ({"fail_on": "dire"}, "one of low, medium, high"),
    ({"baseline": "nope.json"}, "No such file")])
def test_what_is_wrong_is_said_before_any_work(options, said, monkeypatch):
    monkeypatch.setattr("plaudit.testing.soundness.audit", lambda *a, **o: pytest.fail("work was done"))
    with pytest.raises(plaudit.BadInput, match=said):
        assert_sound(drifts, "CartPole-v1", **options)


def test_a_test_that_audits_twice_keeps_both_reports(tmp_path):
    running = Running("a.py::test[x/1]", tmp_path, lambda: tmp_path, lambda n, v: None)
    first = running.folder()
    first.mkdir()
    (first / "report.json").write_text("{}")
    assert first.name == "a.py-test-x-1" and running.folder().name == "a.py-test-x-1-2"


# --- the price of a start ----------------------------------------------------------------------------


def test_the_plugin_is_announced_and_loads_nothing_heavy(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"plaudit": "plaudit.testing.plugin"}
    code = ("import pytest, sys, time; began = time.process_time(); import plaudit.testing.plugin; "
            "spent = time.process_time() - began; "
            "print(spent, [m for m in sys.modules if m.split('.')[0] in ('torch', 'numpy', 'gymnasium', 'rich')])")
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": str(Path(plaudit.__file__).parents[1])}).stdout
    spent, heavy = out.strip().split(" ", 1)
    assert heavy == "[]" and float(spent) < 0.1


@pytest.mark.slow(reason="searches a real flaw and its healthy twin")
def test_a_planted_flaw_fails_by_search_and_its_healthy_twin_passes(tmp_path):
    from plaudit.auditing.flaws.boat_race import farmed_checkpoints, healthy, reward

    flaw = farmed_checkpoints()
    options = {"intent": flaw.intent(), "steps": 20_000, "out": tmp_path / "out", "only": ["exploit", "incentives"]}
    with pytest.raises(AssertionError, match="is not sound. Not safe to optimise") as failed:
        assert_sound(reward, flaw.task(), **options)
    assert "[high] exploit" in str(failed.value) and "plaudit replay" in str(failed.value)
    assert assert_sound(healthy, flaw.task(), **options).verdict.safe is True
