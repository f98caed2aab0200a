"""The ground of every room: episodes, rewards, scores, their algebra, seeds, checkpoints, statistics.

Import from the module that holds the idea (`from plaudit.core.episodes import Episodes`); what users
need most is also a name of `plaudit` itself.
"""

from __future__ import annotations
