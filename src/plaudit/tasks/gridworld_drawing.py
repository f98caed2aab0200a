"""Pictures of grid worlds: one state, or a whole trajectory over the map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plaudit.tasks.drawing import (
    BLUE,
    BROWN,
    GOLD,
    GREEN,
    INK,
    MUTED,
    PAPER,
    RED,
    SHADE,
    Canvas,
    Color,
    blend,
)
from plaudit.tasks.features import Bonus, Checkpoint, Dirt, Feature, Goal, Lava, Trap

if TYPE_CHECKING:
    from plaudit.tasks.gridworld import GridWorld

_FLOOR: Color = (244, 243, 239)
_WALL: Color = (74, 82, 99)
_HALFWAY: Color = (150, 76, 176)
_TURN = math.pi * (3 - math.sqrt(5))


def draw_state(world: GridWorld, state: int) -> np.ndarray:
    """The map with its features as they are in this state, and the agent as a blue disc."""
    canvas = _map(world, state)
    _agent(canvas, _center(world, state))
    return canvas.array()


def draw_path(world: GridWorld, states: Sequence[int]) -> np.ndarray:
    """The trajectory as one smooth line from blue (early) to red (late); loops spread out instead of overlapping."""
    canvas = _map(world, states[0], quiet=True)
    visits: dict[tuple[float, float], int] = {}
    points: list[tuple[float, float]] = []
    for (x, y), _ in itertools.groupby(_center(world, state) for state in states):
        seen = visits.get((x, y), 0)
        visits[x, y] = seen + 1
        radius, angle = 0.26 * math.sqrt((seen % 24) / 24), seen * _TURN
        points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    line = _smooth(points)
    width = 0.09 if max(visits.values()) < 6 else 0.04
    for i, (a, b) in enumerate(itertools.pairwise(line)):
        share = i / max(1, len(line) - 2)
        color = blend(BLUE, _HALFWAY, 2 * share) if share < 0.5 else blend(_HALFWAY, RED, 2 * share - 1)
        canvas.line([a, b], color, width)
    for feature in world.features:
        if isinstance(feature, Checkpoint):
            for cell in world.positions[feature.letter]:
                _diamond(canvas, *_at(world, int(cell)), 0.2, GOLD)
    canvas.disc(points[0], 0.17, PAPER)
    canvas.ring(points[0], 0.17, BLUE, 0.06)
    _agent(canvas, points[-1], RED)
    return canvas.array()


def _map(world: GridWorld, state: int, *, quiet: bool = False) -> Canvas:
    size = int(min(56, max(12, 760 // max(world.W, world.H))))
    canvas = Canvas(world.W * size, world.H * size, x=(0, world.W), y=(0, world.H), background=_WALL)
    for row, column in world.cells.tolist():
        x, y = column, world.H - 1 - row
        canvas.box(x, y, x + 1, y + 1, SHADE)
        canvas.box(x + 0.02, y + 0.02, x + 0.98, y + 0.98, _FLOOR, corner=0.06)
    place = world.place(np.array([state]))
    flags = {name: int(value[0]) for name, value in place.flags.items()}
    for cell in world.starts:
        x, y = _at(world, int(cell))
        canvas.ring((x, y), 0.3, MUTED, 0.04)
    for feature in world.features:
        for i, cell in enumerate(world.positions[feature.letter]):
            _tile(canvas, feature, *_at(world, int(cell)), lit=quiet or feature.lit(flags, i))
    return canvas


def _tile(canvas: Canvas, feature: Feature, x: float, y: float, *, lit: bool) -> None:
    if isinstance(feature, Goal):
        canvas.box(x - 0.48, y - 0.48, x + 0.48, y + 0.48, (220, 240, 228), corner=0.06)
        if feature.stops:
            canvas.line([(x - 0.14, y - 0.3), (x - 0.14, y + 0.32)], INK, 0.05)
            canvas.polygon([(x - 0.12, y + 0.33), (x + 0.28, y + 0.18), (x - 0.12, y + 0.03)], GREEN)
        else:
            for i, j in itertools.product(range(6), range(2)):
                canvas.box(x - 0.48 + 0.16 * i, y - 0.16 + 0.16 * j, x - 0.32 + 0.16 * i, y + 0.16 * j,
                           INK if (i + j) % 2 else PAPER)
    elif isinstance(feature, Checkpoint):
        color = GOLD if lit else MUTED
        canvas.box(x - 0.48, y - 0.48, x + 0.48, y + 0.48, (253, 243, 214) if lit else SHADE, corner=0.06)
        _diamond(canvas, x, y, 0.3, color)
    elif isinstance(feature, Dirt):
        if lit:
            for dx, dy, r in ((-0.2, 0.12, 0.12), (0.12, 0.2, 0.09), (0.02, -0.08, 0.15), (0.26, -0.14, 0.08),
                              (-0.22, -0.22, 0.08)):
                canvas.disc((x + dx, y + dy), r, BROWN)
        else:
            canvas.line([(x - 0.1, y), (x + 0.1, y)], MUTED, 0.03)
            canvas.line([(x, y - 0.1), (x, y + 0.1)], MUTED, 0.03)
    elif isinstance(feature, Lava):
        canvas.box(x - 0.5, y - 0.5, x + 0.5, y + 0.5, RED)
        for dy in (-0.2, 0.05, 0.3):
            wave = [(x - 0.4 + 0.1 * k, y + dy + 0.05 * math.sin(k * 1.9)) for k in range(9)]
            canvas.line(wave, (246, 176, 84), 0.06)
    elif isinstance(feature, Trap):
        canvas.box(x - 0.48, y - 0.48, x + 0.48, y + 0.48, (214, 216, 222), corner=0.06)
        canvas.line([(x - 0.24, y - 0.24), (x + 0.24, y + 0.24)], INK, 0.07)
        canvas.line([(x - 0.24, y + 0.24), (x + 0.24, y - 0.24)], INK, 0.07)
    elif isinstance(feature, Bonus):
        if lit:
            canvas.disc((x, y), 0.26, GOLD, outline=(201, 142, 24), width=0.05)
            canvas.disc((x - 0.07, y + 0.07), 0.06, (255, 232, 160))
        else:
            canvas.ring((x, y), 0.2, SHADE, 0.04)
    else:
        canvas.box(x - 0.44, y - 0.44, x + 0.44, y + 0.44, (226, 234, 246) if lit else SHADE, corner=0.1)
        canvas.text((x, y), feature.letter, INK if lit else MUTED, size=0.5)


def _diamond(canvas: Canvas, x: float, y: float, size: float, color: Color) -> None:
    for r, shade in ((size, color), (0.43 * size, PAPER)):
        canvas.polygon([(x, y + r), (x + r, y), (x, y - r), (x - r, y)], shade)


def _agent(canvas: Canvas, center: tuple[float, float], color: Color = BLUE) -> None:
    canvas.disc(center, 0.31, PAPER)
    canvas.disc(center, 0.26, color)
    canvas.disc((center[0] - 0.08, center[1] + 0.08), 0.06, blend(color, (255, 255, 255), 0.65))


def _at(world: GridWorld, cell: int) -> tuple[float, float]:
    row, column = world.cells[cell].tolist()
    return column + 0.5, world.H - row - 0.5


def _center(world: GridWorld, state: int) -> tuple[float, float]:
    return _at(world, state // world.F)


def _smooth(points: Sequence[tuple[float, float]], pieces: int = 6) -> list[tuple[float, float]]:
    """A Catmull-Rom spline through the points, a little tighter than the usual."""
    if len(points) < 3:
        return list(points)
    p = np.array([points[0], *points, points[-1]])
    t = (np.arange(pieces) / pieces)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    m0, m1 = 0.35 * (c - a), 0.35 * (d - b)
    curve = (2 * t**3 - 3 * t**2 + 1) * b + (t**3 - 2 * t**2 + t) * m0 + (3 * t**2 - 2 * t**3) * c + (t**3 - t**2) * m1
    out = curve.transpose(1, 0, 2).reshape(-1, 2).tolist()
    return [(x, y) for x, y in out] + [points[-1]]
