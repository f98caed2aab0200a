"""How far two rewards can lead apart: STARC, EPIC and DARD, exact in finite worlds and sampled elsewhere."""

from __future__ import annotations
