"""The checks: each module looks at a reward in one way and says what it found (`CHECK`)."""

from __future__ import annotations

BUILT_IN = ("contract", "scale", "incentives", "exploit", "distance", "fragility")
"""The modules of this folder that are checks, in the order in which they run."""
