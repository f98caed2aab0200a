"""The flaw collection: planted flaws, each with its healthy twin on the same task and a statement of intent.

What a check is worth is measured here: which flaws it finds, and how often it cries wolf on a healthy reward. Each
module holds one template; its `reward`, `healthy` and `intended` are plain functions, so that
`plaudit audit plaudit.auditing.flaws.boat_race:reward --env plaudit.auditing.flaws.boat_race:task
--intent plaudit.auditing.flaws.boat_race:intended:any` audits it like a reward of one's own, and
`plaudit audit flaw:boat_race` does the same in short. `collection` lists all flaws, `healthy_set` all healthy rewards.
"""

from __future__ import annotations

from plaudit.auditing.flaws.collection import TEMPLATES, flaw, flaws
from plaudit.auditing.flaws.flaw import Flaw
from plaudit.auditing.flaws.healthy_set import Healthy, healthy, healthy_reward

__all__ = ["TEMPLATES", "Flaw", "Healthy", "flaw", "flaws", "healthy", "healthy_reward"]
