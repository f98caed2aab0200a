"""The hunters that `maximise` sends out: simple behaviours, evolution, reinforcement learning, exact planning."""

from __future__ import annotations
