"""Writes what is generated from results/: docs/zoo.md, its figures, and the zoo table of the README.

    python docs/pages.py            writes them (make pages)
    python docs/pages.py --check    fails where they are not what results/ says

A result is results/NAME.json, with results/NAME.svg or NAME.png beside it where it has a figure. Numbers in `arms`
are plain or intervals {"mean", "low", "high", "n"}.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- zoo: written by docs/pages.py -->", "<!-- zoo: end -->"
KEYS = ("number", "name", "scale", "verdict", "claim", "arms", "seconds", "machine")
INTRO = """# Zoo

Published systems as experiments on plaudit's parts. Each names the paper's central claim, runs it beside its baselines
and computes the verdict (`holds`, `does not hold` or `inconclusive`) from the interval, never by hand. A claim that
does not hold at the scale we ran is reported as such: that is a finding too.

```console
$ plaudit zoo                         # all systems, with their verdicts
$ plaudit zoo run NAME --scale small  # runs one again
```

`smoke` proves in seconds that a system runs, `small` is the honest scaled-down replication whose results stand below,
`paper` is the paper's own size. This page is written from `results/`.
"""


def load(folder: Path) -> list[dict[str, Any]]:
    """The results of a folder in the order of their numbers.

    Raises:
        ValueError: when a result lacks a key.
    """
    found = []
    for path in folder.glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in KEYS if key not in result]
        if missing:
            raise ValueError(f"{path}: lacks {', '.join(missing)}")
        found.append(result)
    return sorted(found, key=lambda r: (int(r["number"]), r["name"]))


def table(results: Sequence[Mapping[str, Any]], *, link: str = "") -> str:
    """One row for each system; the names link to `link` with the system's anchor."""
    if not results:
        return "No result has been committed yet.\n"
    rows = ["| № | system | claim | scale | verdict |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        rows.append(f"| {int(r['number']):02d} | [{r['name']}]({link}#{r['name']}) | {cell(r['claim'])} | {r['scale']} "
                    f"| **{r['verdict']}** |")
    return "\n".join(rows) + "\n"


def section(result: Mapping[str, Any], figure: str | None) -> str:
    """One system: claim, verdict, the numbers of each arm, what it cost."""
    lines = [f"## {int(result['number']):02d} {result['name']} {{ #{result['name']} }}", "",
             str(result["claim"]).strip(), "", f"**{result['verdict']}** at `{result['scale']}` scale, in "
             f"{duration(float(result['seconds']))} on {machine(result['machine'])}.", ""]
    arms: Mapping[str, Any] = result["arms"]
    if arms:
        metrics = list(dict.fromkeys(m for arm in arms.values() for m in metrics_of(arm)))
        lines += ["| arm | " + " | ".join(m or "value" for m in metrics) + " |", "| --- |" + " --- |" * len(metrics)]
        lines += [f"| {cell(name)} | " + " | ".join(show(metrics_of(arm).get(m)) for m in metrics) + " |"
                  for name, arm in arms.items()]
        lines.append("")
    if figure:
        lines += [f"![{result['name']}: {cell(result['claim'])}]({figure})", ""]
    return "\n".join(lines)


def metrics_of(arm: Any) -> Mapping[str, Any]:
    """The metrics of an arm by name; an arm that is one number has one without a name."""
    return arm if isinstance(arm, Mapping) and "mean" not in arm else {"": arm}


def show(value: Any) -> str:
    """A number, with its interval where it has one; a dash where there is none (not a zero)."""
    if value is None:
        return "–"
    if isinstance(value, Mapping) and "mean" in value:
        if value["mean"] is None:
            return "unknown"
        if value.get("low") is None or value.get("high") is None:
            return f"{value['mean']:.4g}"
        return f"{value['mean']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else cell(value)


def cell(value: Any) -> str:
    """Text that cannot break a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def machine(value: Any) -> str:
    """The class of a machine, in words."""
    return cell(", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value)


def generate(root: Path) -> dict[Path, bytes]:
    """Everything that is generated, by path."""
    results = load(root / "results")
    out: dict[Path, bytes] = {}
    parts = [INTRO, table(results)]
    for r in results:
        drawn = next((p for ext in ("svg", "png") if (p := root / "results" / f"{r['name']}.{ext}").is_file()), None)
        if drawn is not None:
            out[root / "docs" / "images" / "zoo" / drawn.name] = drawn.read_bytes()
        parts.append(section(r, f"images/zoo/{drawn.name}" if drawn else None))
    out[root / "docs" / "zoo.md"] = ("\n".join(parts).rstrip() + "\n").encode()
    readme = (root / "README.md").read_text(encoding="utf-8")
    body = f"{BEGIN}\n\n{table(results, link='docs/zoo.md')}\n{END}"
    out[root / "README.md"] = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: body, readme,
                                     flags=re.DOTALL).encode()
    return out


def stale(root: Path) -> list[Path]:
    """The generated files that are not what results/ says."""
    return [path for path, content in generate(root).items() if not path.is_file() or path.read_bytes() != content]


def main() -> None:
    """Writes the pages, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is out of date")
    if parser.parse_args().check:
        sys.exit("".join(f"{path} is out of date; run: make pages\n" for path in stale(ROOT)) or 0)
    for path, content in generate(ROOT).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
