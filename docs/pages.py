"""Writes what is generated from results/: docs/zoo.md, docs/record.md, their figures, the zoo table of the README,
and the rates that the package quotes (src/plaudit/auditing/record/measured.json); from benchmarks/results/:
docs/measured.md; and from the code: docs/flaws.md.

    python docs/pages.py            writes them (make pages)
    python docs/pages.py --check    fails where they are not what results/ says
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from plaudit.auditing.flaws.page import markdown as flaws_page
from plaudit.auditing.record.building import for_package
from plaudit.auditing.record.page import markdown as record_page
from plaudit.auditing.record.text import text_markdown
from plaudit.zoo.table import markdown

sys.path.insert(0, str(Path(__file__).parent))
from measured_page import markdown as measured_page

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- zoo: written by docs/pages.py -->", "<!-- zoo: end -->"
INTRO = """# Zoo

Published systems as experiments on plaudit's parts. Each names the paper's central claim, runs it beside its baselines
and computes the verdict (`holds`, `does not hold` or `inconclusive`) from intervals, never by hand. A claim that does
not hold at the scale we ran is reported as such: that is a finding too.

```console
$ plaudit zoo                         # all systems, with their verdicts
$ plaudit zoo run NAME --scale small  # runs one again
```

`smoke` proves in seconds that a system runs, `small` is the honest scaled-down replication whose results stand below,
`paper` is the paper's own size. This page is written from `results/`.
"""


def generate(root: Path) -> dict[Path, bytes]:
    """Everything that is generated, by path."""
    results, images = root / "results", root / "docs" / "images" / "zoo"
    page = f"{INTRO}\n{markdown(results, details=True, figures='images/zoo')}"
    out = {root / "docs" / "zoo.md": page.encode(), root / "docs" / "flaws.md": flaws_page().encode(),
           root / "docs" / "measured.md": measured_page(root / "benchmarks" / "results").encode()}
    for name in re.findall(r"\]\(images/zoo/([^)]+)\)", page):
        out[images / name] = (results / name).read_bytes()
    readme = (root / "README.md").read_text(encoding="utf-8")
    body = f"{BEGIN}\n\n{markdown(results)}\n{END}"
    region = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    out[root / "README.md"] = region.sub(lambda _: body, readme).encode()
    return out | record_pages(root)


def record_pages(root: Path) -> dict[Path, bytes]:
    """The page of the audit record, its figure, and the rates that the package ships; nothing where there is none."""
    source = root / "results" / "audit-record.json"
    if not source.is_file():
        return {}
    record = json.loads(source.read_text(encoding="utf-8"))
    rates = json.dumps(for_package(record), indent=1, allow_nan=False) + "\n"
    out = {root / "src" / "plaudit" / "auditing" / "record" / "measured.json": rates.encode()}
    picture = source.with_suffix(".png")
    figure = "images/audit-record.png" if picture.is_file() else None
    if figure is not None:
        out[root / "docs" / figure] = picture.read_bytes()
    page = record_page(record, figure=figure)
    of_text = root / "results" / "audit-record-text.json"
    if of_text.is_file():
        text = json.loads(of_text.read_text(encoding="utf-8"))
        page += f"\n{text_markdown(text)}"
        shipped = json.dumps(for_package(text), indent=1, allow_nan=False) + "\n"
        out[root / "src" / "plaudit" / "auditing" / "text" / "measured.json"] = shipped.encode()
    return out | {root / "docs" / "record.md": page.encode()}


def stale(root: Path) -> list[Path]:
    """The generated files that are not what results/ says."""
    return [path for path, content in generate(root).items() if not path.is_file() or path.read_bytes() != content]


def write(root: Path) -> None:
    """Writes everything that is generated."""
    for path, content in generate(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main() -> None:
    """Writes the pages, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is out of date")
    if parser.parse_args().check:
        sys.exit("".join(f"{path} is out of date; run: make pages\n" for path in stale(ROOT)) or 0)
    write(ROOT)


if __name__ == "__main__":
    main()
