"""Audits as tests: `assert_sound`, and the pytest plug-in that knows where its reports go.

Nothing heavy is imported before it is used: pytest loads the plug-in at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plaudit.testing.soundness import assert_sound as assert_sound

__all__ = ["assert_sound"]


def __getattr__(name: str) -> Any:
    if name != "assert_sound":
        raise AttributeError(f"module 'plaudit.testing' has no attribute {name!r}; it has assert_sound")
    from plaudit.testing.soundness import assert_sound

    return assert_sound
