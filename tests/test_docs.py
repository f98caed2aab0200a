"""The code in the documentation runs as it stands."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"(?P<skip><!-- not run: .+? -->\n)?^```python[^\n]*\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """The Python blocks of a page as (line, code); one that cannot run here says why in a comment before it."""
    return [(text[: m.start("code")].count("\n") + 1, m["code"]) for m in BLOCK.finditer(text) if not m["skip"]]


def run_page(text: str, name: str) -> str:
    """Runs the blocks of a page one after the other, as a reader would, and returns what they printed."""
    names: dict[str, object] = {"__name__": "__page__"}
    printed = io.StringIO()
    for line, code in python_blocks(text):
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, name, "exec"), names)  # noqa: S102
    return printed.getvalue()


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in (ROOT / p).read_text(encoding="utf-8")])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page((ROOT / page).read_text(encoding="utf-8"), page)


def test_a_page_whose_code_is_wrong_is_found() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Episode'"):
        run_page("```python\nimport plaudit\nplaudit.Episode\n```\n", "page.md")


def test_a_block_that_cannot_run_here_is_left_out() -> None:
    text = "<!-- not run: trains for a minute -->\n```python\n1 / 0\n```\n\n```python\nprint(2)\n```\n"
    assert run_page(text, "page.md") == "2\n"


def test_a_later_block_sees_the_names_of_an_earlier_one() -> None:
    assert run_page("```python\nx = 2\n```\ntext\n```python\nprint(x)\n```\n", "page.md") == "2\n"


@pytest.mark.parametrize("page", PAGES)
def test_pages_do_not_point_at_files_that_are_missing(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text)
    assert [t for t in linked if not (ROOT / page).parent.joinpath(t).exists()] == []
