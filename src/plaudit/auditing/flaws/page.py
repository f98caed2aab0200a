"""The page of the documentation that lists the flaw collection and the healthy set."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from plaudit.auditing.flaws.collection import flaws
from plaudit.auditing.flaws.flaw import Flaw
from plaudit.auditing.flaws.healthy_set import Healthy, healthy

KINDS = {"grid": "Grid worlds", "classic": "Classic control", "mujoco": "MuJoCo", "box2d": "Box2D"}
INTRO = """# The flaw collection

What a check is worth is measured on rewards whose answer is known: planted flaws, which a right check has to find, and
healthy rewards, on which a `high` finding is one too many. Each planted flaw is a reward with one known fault, its
healthy twin on the same task, and a statement of what is wanted. The tests show that each is a flaw, by exact planning
or by a scripted exploit: some behaviour earns more under it while doing less of what is wanted, and under the twin it
earns less; or the reward says nothing, or is no function of the step.

```console
$ plaudit audit flaw:boat_race                    # any flaw by its name
$ plaudit audit healthy:gymnasium/CartPole-v1     # any healthy reward
```

`tuned` are those that were looked at while the thresholds of the checks were chosen; `fresh` are all others.
"Found by" names the checks that are right to find it, decided from what the flaw is. The page is written from the code.
"""


def markdown() -> str:
    """The page.

    Example:
        >>> markdown().split(chr(10))[0]
        '# The flaw collection'
    """
    planted, sound = flaws(), healthy()
    parts = [INTRO, f"{len(planted)} planted flaws ({sum(f.split == 'fresh' for f in planted)} fresh), "
                    f"{len(sound)} healthy rewards.\n"]
    for tag, title in KINDS.items():
        parts.append(f"## {title}\n\n{_flaw_table([f for f in planted if tag in f.tags])}")
    parts.append("## Healthy rewards\n\nThe twins of the flaws above (those of several strengths share one), and:\n\n"
                 + _healthy_table([h for h in sound if h.origin != "twin"]))
    return "\n".join(parts)


def task_of(make: Callable[..., Any]) -> str:
    """A task in words: its id, or what its function says."""
    if isinstance(make, functools.partial) and make.args and isinstance(make.args[0], str):
        options = ", ".join(f"{k}={v}" for k, v in make.keywords.items())
        return make.args[0] + (f" ({options})" if options else "")
    fn = make.func if isinstance(make, functools.partial) else make
    text = " ".join((inspect.getdoc(fn) or "").split("\n\n")[0].split())
    return text.rstrip(".")


def _flaw_table(members: Sequence[Flaw]) -> str:
    rows = [(f"`{f.name}`", f.kind, task_of(f.make), f.statement, f.wrong, ", ".join(f.caught_by), f.split, f.source)
            for f in members]
    return _table(("name", "family", "task", "wanted", "what is wrong", "found by", "split", "source"), rows)


def _healthy_table(members: Sequence[Healthy]) -> str:
    rows = [(f"`{h.name}`", task_of(h.make), h.statement, h.source) for h in members]
    return _table(("name", "task", "wanted", "source"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
