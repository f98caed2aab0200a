"""The zoo as a table, generated from `results/`: for the terminal, the documentation and the README."""

from __future__ import annotations

from pathlib import Path

from plaudit.zoo.contract import Criterion, ZooResult
from plaudit.zoo.registry import RESULTS, results, systems

HEADER = ("number", "name", "room", "scale", "verdict", "date")


def rows(folder: str | Path = RESULTS) -> list[tuple[str, str, str, str, str, str]]:
    """Number, name, room, scale run, verdict and date of every system; dashes where it has not been run.

    Example:
        >>> [row[1] for row in rows("/nowhere") if row[0] == "08"]
        ['starc']
    """
    kept = results(folder)
    out = []
    for s in systems():
        r = kept.get(s.name)
        out.append((f"{s.number:02d}", s.name, s.room, *((r.scale, r.verdict, r.date) if r else ("–", "not run", "–"))))
    return out


def markdown(folder: str | Path = RESULTS, *, details: bool = False, figures: str | None = None) -> str:
    """The table in Markdown; with `details`, then a section for each result.

    Args:
        folder: where the results lie.
        details: adds claim, criteria and arms of each.
        figures: the path under which the figures are found from the page; None shows none.
    """
    lines = [_row(("#", "system", "room", "scale", "verdict", "date")), _row(("---",) * 6)]
    lines += [_row((number, f"`{name}`", *rest)) for number, name, *rest in rows(folder)]
    if details:
        for r in results(folder).values():
            lines += ["", *_section(r, figures)]
    return "\n".join(lines) + "\n"


def _section(r: ZooResult, figures: str | None) -> list[str]:
    stem = r.name if r.scale != "paper" else f"{r.name}-paper"
    out = [f"## {r.number:02d} {r.title}", "", f"Claim: {r.claim}", "",
           f"**{r.verdict}** at scale `{r.scale}`, {r.seeds} seeds, {r.seconds:.0f} s on {r.place}, {r.date}.", ""]
    if figures is not None:
        out += [f"![{r.name}]({figures}/{stem}.png)", ""]
    out += [_row(("criterion", "needed", "found", "verdict")), _row(("---",) * 4)]
    out += [_row((c.says, needed(c), str(c.value), c.verdict)) for c in r.criteria]
    out += ["", _row(("arm", "metric", "value")), _row(("---",) * 3)]
    out += [_row((f"{a.name} (baseline)" if a.baseline else a.name, a.metric, str(a.value))) for a in r.arms]
    return out


def needed(criterion: Criterion) -> str:
    """The range of a criterion in words.

    Example:
        >>> from plaudit.core.intervals import Interval
        >>> needed(Criterion(says="", value=Interval(0, 0, 0, 1), above=0.0))
        '> 0'
    """
    low, high = criterion.above, criterion.below
    if low == -float("inf"):
        return f"< {high:g}"
    return f"> {low:g}" if high == float("inf") else f"{low:g} to {high:g}"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
