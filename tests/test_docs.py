"""The code in the documentation runs as it stands."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path
from types import ModuleType

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


def load_pages() -> ModuleType:
    """docs/pages.py, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESULT = {"number": 8, "name": "starc", "scale": "small", "verdict": "holds", "claim": "STARC predicts | regret",
          "seconds": 120, "machine": "2 cores", "arms": {
              "STARC": {"correlation": {"mean": 0.91, "low": 0.88, "high": 0.93, "n": 8}, "cost_s": 2.5},
              "EPIC": {"correlation": {"mean": 0.6, "low": None, "high": None, "n": 1}}}}


def project_with(tmp_path: Path, result: dict[str, object]) -> Path:
    """A checkout with one result and nothing generated yet."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "starc.json").write_text(json.dumps(result), encoding="utf-8")
    (tmp_path / "results" / "starc.svg").write_text("<svg/>", encoding="utf-8")
    pages = load_pages()
    (tmp_path / "README.md").write_text(f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n", encoding="utf-8")
    return tmp_path


def test_what_is_generated_from_results_is_up_to_date() -> None:
    assert load_pages().stale(ROOT) == [], "run: make pages"


def test_a_result_becomes_a_row_and_a_section_with_intervals(tmp_path: Path) -> None:
    made = {path.name: text.decode() for path, text in load_pages().generate(project_with(tmp_path, RESULT)).items()}
    assert "| 08 | [starc](docs/zoo.md#starc) | STARC predicts \\| regret | small | **holds** |" in made["README.md"]
    assert made["README.md"].startswith("before") and made["README.md"].endswith("after\n")
    assert "| STARC | 0.91 [0.88, 0.93] | 2.5 |" in made["zoo.md"]
    assert "| EPIC | 0.6 | – |" in made["zoo.md"]  # not measured is not zero
    assert "](images/zoo/starc.svg)" in made["zoo.md"] and made["starc.svg"] == "<svg/>"


def test_a_table_that_was_changed_by_hand_is_found(tmp_path: Path) -> None:
    pages, root = load_pages(), project_with(tmp_path, RESULT)
    for path, content in pages.generate(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert pages.stale(root) == []
    page = root / "docs" / "zoo.md"
    page.write_text(page.read_text(encoding="utf-8").replace("0.91", "0.99"), encoding="utf-8")
    assert pages.stale(root) == [page]


def test_a_result_without_a_verdict_is_refused(tmp_path: Path) -> None:
    root = project_with(tmp_path, {k: v for k, v in RESULT.items() if k != "verdict"})
    with pytest.raises(ValueError, match="lacks verdict"):
        load_pages().generate(root)
