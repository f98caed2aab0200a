"""Published systems as experiments on the parts of plaudit: one module for each, found by its `SYSTEM`."""

from __future__ import annotations
