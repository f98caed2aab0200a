"""From reward to policy: exact planning where the world is written out, learners and searches elsewhere."""

from __future__ import annotations
