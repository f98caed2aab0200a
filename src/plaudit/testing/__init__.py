"""Audits as tests: `assert_sound`, and the pytest plug-in that knows where its reports go.

Nothing heavy is imported before it is used: pytest loads the plug-in at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.testing.soundness import assert_sound as assert_sound

_HOME = {"assert_sound": "soundness"}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)
