"""Is the reward right? Distances, planted flaws, checks that return findings with witnesses, and the report."""

from __future__ import annotations
