"""The stacked optimiser of the learners; it lives in `plaudit.core.stacked_adam`, where reward models share it."""

from __future__ import annotations

from plaudit.core.stacked_adam import MemberNoise, PerMember, PopulationAdam, per_member

__all__ = ["MemberNoise", "PerMember", "PopulationAdam", "per_member"]
