"""The command line: `plaudit audit`, `replay`, `optimize`, `zoo`, `demo`."""

from __future__ import annotations
