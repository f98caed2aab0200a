"""The page of the collection names every member, in words that are the code's."""

from __future__ import annotations

from functools import partial

from plaudit.auditing.flaws import flaws, healthy
from plaudit.auditing.flaws.locomotion import short
from plaudit.auditing.flaws.page import markdown, task_of
from plaudit.auditing.flaws.standard import toy


def test_every_flaw_has_one_row_and_every_healthy_reward_that_is_no_twin():
    page = markdown()
    for name in [f.name for f in flaws()] + [h.name for h in healthy() if h.origin != "twin"]:
        assert page.count(f"| `{name}` |") == 1
    assert f"{len(flaws())} planted flaws" in page
    widths = {line.count(" | ") for line in page.splitlines() if line.startswith("| `")}
    assert len(widths) == 2  # the rows of each kind of table have as many cells


def test_tasks_are_told_by_their_id_or_by_what_they_say():
    assert task_of(partial(short, "CartPole-v1")) == "CartPole-v1"
    assert task_of(partial(toy, "FrozenLake-v1", is_slippery=False)) == "FrozenLake-v1 (is_slippery=False)"
    assert task_of(toy) == "A toy-text environment"
