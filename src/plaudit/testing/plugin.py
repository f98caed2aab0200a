"""The pytest plug-in: `--plaudit-out`, and GitHub's annotations for rewards that are not sound."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from plaudit.core.extras import require
from plaudit.testing.place import RUNNING, Running

pytest: Any = require("pytest", extra="test")
ANNOTATION = "plaudit_annotation"


def pytest_addoption(parser: Any) -> None:
    """Adds our one option."""
    parser.getgroup("plaudit").addoption(
        "--plaudit-out", metavar="DIR", default=None,
        help="where the reports of assert_sound go, of tests that pass too; those that fail go to pytest's own "
             "temporary folder otherwise")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: Any) -> None:
    """Lets `assert_sound` know which test it is in."""
    out = item.config.getoption("--plaudit-out")

    def temporary() -> Path:
        factory = getattr(item.config, "_tmp_path_factory", None)
        return Path(factory.mktemp("plaudit") if factory else tempfile.mkdtemp(prefix="plaudit-"))

    RUNNING.set(Running(item.nodeid, Path(out) if out else None, temporary,
                        lambda name, value: item.user_properties.append((name, value))))


def pytest_runtest_teardown(item: Any) -> None:
    """The test is over."""
    RUNNING.set(None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the annotations where GitHub reads along; results come here from all workers of xdist too."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    reports = [r for some in terminalreporter.stats.values() for r in some if getattr(r, "when", "") == "call"]
    for line in (value for r in reports for name, value in r.user_properties if name == ANNOTATION):
        terminalreporter.write_line(line)
