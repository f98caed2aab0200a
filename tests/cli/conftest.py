"""A folder with rewards and environments in files, and the command line in it: here, or in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import plaudit
from plaudit.cli.main import main

WORLD = Path(__file__).parents[1] / "auditing" / "boat_world.py"


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with `boat.py` in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(WORLD, tmp_path / "boat.py")
    return tmp_path


@pytest.fixture
def run(here, capsys) -> Callable[..., Ran]:
    """Runs a command line in this process."""

    def call(*words: str) -> Ran:
        code = main(words)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def start(here) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command line in a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def call(*words: str) -> subprocess.Popen[str]:
        source = str(Path(plaudit.__file__).parents[1])
        env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
               "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([sys.executable, "-m", "plaudit.cli.main", *words], cwd=here, env=env, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append(process)
        return process

    yield call
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
