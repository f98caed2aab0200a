"""The checks: each module looks at a reward in one way and says what it found (`CHECK`)."""

from __future__ import annotations
