"""The stacked networks of the learners; they live in `plaudit.core.stacked`, where reward models share them."""

from __future__ import annotations

from plaudit.core.stacked import Activation, Initialisation, PopulationMLP
from plaudit.core.stacked_passes import Passes

__all__ = ["Activation", "Initialisation", "Passes", "PopulationMLP"]
