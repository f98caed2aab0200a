"""Search without gradients: families of simple policies, the cross-entropy method, random search, MAP-Elites."""

from __future__ import annotations

from plaudit.optimize.evolve.cem import AugmentedRandomSearch, CrossEntropy
from plaudit.optimize.evolve.families import Family, Network, Rhythm, Segments, Table
from plaudit.optimize.evolve.map_elites import Archive

__all__ = ["Archive", "AugmentedRandomSearch", "CrossEntropy", "Family", "Network", "Rhythm", "Segments", "Table"]
