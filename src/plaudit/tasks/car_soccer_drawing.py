"""The picture of a match: field, goals, pads, cars with their boost, and the ball."""

from __future__ import annotations

import math

import numpy as np

from plaudit.tasks.car_soccer_physics import BALL, CAR, GOAL, LENGTH, PAD_RADIUS, PAD_WAIT, PADS, WIDTH
from plaudit.tasks.drawing import BLUE, GOLD, INK, MUTED, ORANGE, PAPER, SHADE, Canvas, Color, blend

_DEEP = 0.5
_GRASS: Color = (236, 240, 232)


def draw_field(canvas: Canvas) -> None:
    """Lines, walls and the two mouths; the goal that a car attacks has the other car's colour."""
    canvas.box(-LENGTH, -WIDTH, LENGTH, WIDTH, _GRASS)
    for side, color in ((-1, BLUE), (1, ORANGE)):
        a, b = sorted((side * LENGTH, side * (LENGTH + _DEEP)))
        canvas.box(a, -GOAL, b, GOAL, blend(PAPER, color, 0.35))
    canvas.line([(0, -WIDTH), (0, WIDTH)], PAPER, 0.05)
    canvas.ring((0, 0), 1.0, PAPER, 0.05)
    for y in (-1, 1):
        canvas.line([(-LENGTH, y * GOAL), (-LENGTH, y * WIDTH), (LENGTH, y * WIDTH), (LENGTH, y * GOAL)], INK, 0.05)


def draw_match(state: np.ndarray, action: int | None) -> np.ndarray:
    """One moment of a match; flames where the agent's last action was to boost."""
    canvas = Canvas(480, 330, x=(-LENGTH - 0.7, LENGTH + 0.7), y=(-WIDTH - 0.35, WIDTH + 0.485))
    draw_field(canvas)
    for (x, y), wait in zip(PADS, state[16:], strict=True):
        canvas.ring((x, y), PAD_RADIUS, blend(GOLD, SHADE, 0.6), 0.04)
        if wait <= 0:
            canvas.disc((x, y), 0.16, GOLD)
        else:
            canvas.disc((x, y), 0.16 * (1 - float(wait) / PAD_WAIT) + 0.02, MUTED)
    for k, color in enumerate((BLUE, ORANGE)):
        flames = k == 0 and action is not None and 3 <= action < 6 and state[14] > 0
        _draw_car(canvas, float(state[4 + k]), float(state[6 + k]), float(state[12 + k]), color, bool(flames))
    canvas.disc((float(state[0]), float(state[1])), BALL, PAPER, outline=INK, width=0.05)
    _draw_boost(canvas, float(state[14]) / 100, -LENGTH, BLUE)
    _draw_boost(canvas, float(state[15]) / 100, LENGTH - 2.0, ORANGE)
    return canvas.array()


def _draw_car(canvas: Canvas, x: float, y: float, heading: float, color: Color, flames: bool) -> None:
    c, n = math.cos(heading), math.sin(heading)

    def at(along: float, across: float) -> tuple[float, float]:
        return x + along * c - across * n, y + along * n + across * c

    if flames:
        canvas.polygon([at(-0.2, 0.12), at(-0.55, 0.0), at(-0.2, -0.12)], GOLD)
    canvas.disc((x, y), CAR, blend(PAPER, color, 0.35))
    canvas.polygon([at(-0.21, 0.14), at(0.17, 0.14), at(0.25, 0.0), at(0.17, -0.14), at(-0.21, -0.14)], color)
    canvas.polygon([at(0.02, 0.09), at(0.11, 0.07), at(0.11, -0.07), at(0.02, -0.09)], PAPER)


def _draw_boost(canvas: Canvas, share: float, left: float, color: Color) -> None:
    canvas.box(left, WIDTH + 0.2, left + 2.0, WIDTH + 0.32, SHADE)
    if share > 0:
        canvas.box(left, WIDTH + 0.2, left + 2.0 * share, WIDTH + 0.32, color)
