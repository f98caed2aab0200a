"""Rewards that are fitted to feedback.

Import from the module that holds the idea (`from plaudit.learn.fitting import fit`).
"""

from __future__ import annotations
