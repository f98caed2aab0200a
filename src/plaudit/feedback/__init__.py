"""Evidence of what is wanted: preferences, who gave them, and which fragments were shown.

Import from the module that holds the idea (`from plaudit.feedback.preferences import Preferences`).
"""

from __future__ import annotations
