"""The code in the documentation runs as it stands."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import pytest

from plaudit.core.intervals import Interval
from plaudit.zoo.contract import Arm, ZooResult

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


def load_pages() -> ModuleType:
    """docs/pages.py, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES_SCRIPT = load_pages()

def project_with_a_result(tmp_path: Path) -> Path:
    """A checkout with one result and nothing generated yet."""
    result = ZooResult(
        number=8, name="starc", title="STARC", room="auditing", scale="small", verdict="holds", seeds=8,
        claim="It predicts regret.", criteria=[], seconds=120.0, machine="2 cores", config={}, code_hash="",
        arms=[Arm(name="STARC", metric="correlation", value=Interval(0.91, 0.88, 0.93, 8))],
        versions={}, date="2026-01-01")
    (tmp_path / "results").mkdir()
    result.save(tmp_path / "results" / "starc.json")
    (tmp_path / "results" / "starc.png").write_bytes(b"a picture")
    (tmp_path / "README.md").write_text(f"before\n{PAGES_SCRIPT.BEGIN}\nhand-made\n{PAGES_SCRIPT.END}\nafter\n")
    return tmp_path


def test_what_is_generated_from_results_is_up_to_date() -> None:
    assert PAGES_SCRIPT.stale(ROOT) == [], "run: make pages"


def test_a_result_becomes_a_row_of_the_readme_and_a_section_with_its_figure(tmp_path: Path) -> None:
    root = project_with_a_result(tmp_path)
    PAGES_SCRIPT.write(root)
    readme, page = (root / "README.md").read_text(), (root / "docs" / "zoo.md").read_text()
    assert re.search(r"\| 08 \| `starc` \|.*\| holds \|", readme)
    assert readme.startswith("before") and readme.endswith("after\n") and "hand-made" not in readme
    assert "It predicts regret." in page and "0.88" in page
    assert (root / "docs" / "images" / "zoo" / "starc.png").read_bytes() == b"a picture"


def test_a_page_that_was_changed_by_hand_is_found(tmp_path: Path) -> None:
    root = project_with_a_result(tmp_path)
    PAGES_SCRIPT.write(root)
    assert PAGES_SCRIPT.stale(root) == []
    page = root / "docs" / "zoo.md"
    page.write_text(page.read_text().replace("0.91", "0.99"))
    assert PAGES_SCRIPT.stale(root) == [page]
