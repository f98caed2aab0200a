"""The code in the documentation runs as it stands."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import re
from collections.abc import Iterator
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


IMPORT = re.compile(r"^ *from (plaudit[\w.]*) import (\([^)]*\)|[^#\n]*)", re.MULTILINE)
GUIDES = [p for p in PAGES if not p.startswith("docs/api/")]
ROOMS = ["plaudit", *sorted(f"plaudit.{p.parent.relative_to(ROOT / 'src' / 'plaudit').as_posix().replace('/', '.')}"
                            for p in ROOT.glob("src/plaudit/*/**/__init__.py") if "_HOME" in p.read_text())]


def reference() -> dict[str, set[str] | None]:
    """The modules of the reference, with the members that they show: None for all that are public."""
    shown: dict[str, set[str] | None] = {}
    for page in ROOT.glob("docs/api/*.md"):
        for block in re.split(r"^::: ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            module, members = block.split()[0], re.search(r"members: \[(.*?)\]", block, re.DOTALL)
            shown[module] = None if members is None else {m.strip() for m in members[1].split(",")}
            if "show_submodules: true" in block:
                folder = ROOT / "src" / module.replace(".", "/")
                shown |= {f"{module}.{p.stem}": None for p in folder.glob("[!_]*.py")}
    return shown


def imported(page: str) -> Iterator[tuple[str, str]]:
    """The (module, name) pairs that the code of a page takes from plaudit."""
    for block in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        for module, names in IMPORT.findall(block["code"]):
            yield from ((module, name) for name in re.findall(r"\w+", names))


def undocumented(module: str, names: Iterator[str] | list[str], shown: dict[str, set[str] | None]) -> list[str]:
    """Which of a module's names stand nowhere in the reference."""
    lost = []
    for name in names:
        thing = getattr(importlib.import_module(module), name)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        members = shown.get(thing.__module__, set())
        if members is not None and thing.__name__ not in members:
            lost.append(f"{thing.__module__}.{thing.__name__}")
    return lost


@pytest.mark.parametrize("page", [p for p in GUIDES if any(imported(p))])
def test_what_a_guide_imports_stands_in_the_reference(page: str) -> None:
    shown = reference()
    assert [x for module, name in imported(page) for x in undocumented(module, [name], shown)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_package_offers_stands_in_the_reference(room: str) -> None:
    offered = [n for n in importlib.import_module(room)._HOME if not n.startswith("_")]
    assert offered
    assert undocumented(room, offered, reference()) == []


def test_a_name_that_the_reference_lacks_is_found() -> None:
    assert undocumented("plaudit", ["Episodes"], {"plaudit.core.episodes": {"Other"}}) == [
        "plaudit.core.episodes.Episodes"]


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
