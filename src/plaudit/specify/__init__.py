"""Rewards that are written: shapes of physical quantities, and ways to combine them."""

from __future__ import annotations

from plaudit.specify.components import (
    Shape,
    alignment,
    distance,
    distance_difference,
    event,
    saved,
    speed_towards,
    touch_acceleration,
)
from plaudit.specify.fields import Field
from plaudit.specify.forms import utility
from plaudit.specify.krc import krc
from plaudit.specify.team import TeamSpirit

__all__ = ["Field", "Shape", "TeamSpirit", "alignment", "distance", "distance_difference", "event", "krc", "saved",
           "speed_towards", "touch_acceleration", "utility"]
