"""plaudit beside the tools that people already run: stable-baselines3, MO-Gymnasium, TRL; both ways."""

from __future__ import annotations
