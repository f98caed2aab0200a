"""The dynamics of 2-D car soccer: disc cars with a heading and boost, a ball, four walls with two mouths, pads.

One body for NumPy and torch. A state is [22, B]; the two cars lie side by side, so that `x = state[4:6]` is [2, B] and
one operation moves both. Lengths are metres, times seconds. Car 0 attacks the goal at +x, car 1 the one at -x.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

from plaudit.tasks.arrays import Array

LENGTH, WIDTH, GOAL = 5.0, 3.5, 1.1
"""Half the length and width of the field, and half the width of a goal's mouth."""
CAR, BALL = 0.25, 0.30
"""Radii."""
CAR_SPEED, BOOST_SPEED, BALL_SPEED = 3.0, 4.2, 7.0
"""Largest speeds: of a car by its engine, of a car by boost, of the ball."""
DT, SUBSTEPS = 0.05, 2
"""A decision lasts SUBSTEPS * DT = 0.1 s."""
PADS = ((-3.8, -2.6), (3.8, 2.6), (-3.8, 2.6), (3.8, -2.6), (0.0, 2.9), (0.0, -2.9))
"""Centres of the boost pads; each turned by 180 degrees is a pad again."""
PAD_RADIUS, PAD_BOOST, PAD_WAIT = 0.45, 34.0, 4.0
"""A pad gives so much boost (of 100) to a car whose centre is so near, and is empty for so many seconds."""
STATE = 16 + len(PADS)
ACTIONS = 12
"""Throttle 1, with boost 1, 0 or -1, each with steering right, straight or left."""

_ENGINE, _PUSH, _ROLL, _GRIP, _TURN = 5.0, 7.0, 0.35, 6.0, 3.6
_BALL_DRAG, _WALL, _HIT, _BALL_MASS, _BURN = 0.25, 0.75, 0.7, 0.35, 33.0
_TINY = 1e-9


class Controls(NamedTuple):
    """What the drivers do, each [2, B]."""

    throttle: Array
    steer: Array
    boost: Array


class Played(NamedTuple):
    """What a decision led to: the state and, each [2, B], who touched the ball, and who scored."""

    state: Array
    touch: Array
    scored: Array


def controls_of(action: Array, xp: ModuleType) -> tuple[Array, Array, Array]:
    """Throttle in {-1, 0, 1}, steering in {-1, 0, 1} and boost in {0, 1} of actions 0 ... 11."""
    throttle = xp.where(action < 6, 1.0, xp.where(action < 9, 0.0, -1.0))
    return throttle, action % 3 - 1.0, xp.where((action >= 3) & (action < 6), 1.0, 0.0)


def play(state: Array, controls: Controls, pace: Array, xp: ModuleType) -> Played:
    """One decision of both drivers; `pace` [2, 1] scales engine and top speed of each car."""
    touch = state[4:6] < -math.inf
    scored = touch | touch
    for _ in range(SUBSTEPS):
        state = _drive(state, controls, pace, xp)
        state, hit = _collide(state, xp)
        state, goals = _roll_ball(state, scored, xp)
        touch, scored = touch | hit, scored | goals
    return Played(_fill(state, xp), touch, scored)


def turned(state: Array, xp: ModuleType) -> Array:
    """The same situation seen by the other side: turned by 180 degrees, the cars exchanged."""
    swap = [0, 1, 2, 3, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14, 17, 16, 19, 18, 21, 20]
    out = state[swap] + 0.0
    out[:12] = -out[:12]
    out[12:14] = out[12:14] + math.pi
    return out


def _drive(s: Array, controls: Controls, pace: Array, xp: ModuleType) -> Array:
    """Both cars for DT: engine along the heading, grip across it, walls that swallow the speed into them."""
    x, y, vx, vy, heading, boost = s[4:6], s[6:8], s[8:10], s[10:12], s[12:14], s[14:16]
    burn = controls.boost * (boost > 0)
    speed = xp.sqrt(vx * vx + vy * vy)
    heading = heading + controls.steer * (_TURN * DT) * (0.35 + 0.65 * xp.clip(speed / 1.5, 0.0, 1.0))
    c, n = xp.cos(heading), xp.sin(heading)
    along, across = vx * c + vy * n, vy * c - vx * n
    along = along * math.exp(-_ROLL * DT) + pace * (controls.throttle * _ENGINE + burn * _PUSH) * DT
    across = across * math.exp(-_GRIP * DT)
    top = pace * (CAR_SPEED + burn * (BOOST_SPEED - CAR_SPEED))
    slowed = xp.where(xp.abs(along) > top, along * math.exp(-2.5 * DT), along)
    along = xp.where(xp.abs(along) > top, xp.where(xp.abs(slowed) > top, slowed, xp.sign(along) * top), along)
    vx, vy = along * c - across * n, along * n + across * c
    x, y = x + vx * DT, y + vy * DT
    wide, long = WIDTH - CAR, LENGTH - CAR
    vx = xp.where(xp.abs(x) > long, 0.0, vx)
    vy = xp.where(xp.abs(y) > wide, 0.0, vy)
    boost = xp.clip(boost - burn * (_BURN * DT), 0.0, 100.0)
    parts = [s[:4], xp.clip(x, -long, long), xp.clip(y, -wide, wide), vx, vy, heading, boost, s[16:]]
    return xp.concatenate(parts)


def _collide(s: Array, xp: ModuleType) -> tuple[Array, Array]:
    """Car with car, and each car with the ball: equal and opposite impulses along the line of centres."""
    x, y, vx, vy = s[4:6], s[6:8], s[8:10], s[10:12]
    bx, by, bvx, bvy = s[0:1], s[1:2], s[2:3], s[3:4]
    # car against car, of equal mass
    dx, dy = x[1:] - x[:1], y[1:] - y[:1]
    d = xp.sqrt(dx * dx + dy * dy) + _TINY
    nx, ny = dx / d, dy / d
    deep = xp.clip(2 * CAR - d, 0.0, 2 * CAR)
    closing = (vx[:1] - vx[1:]) * nx + (vy[:1] - vy[1:]) * ny
    push = xp.where((deep > 0) & (closing > 0), 0.5 * (1 + 0.3) * closing, 0.0)
    apart = xp.concatenate([-deep, deep]) * 0.5
    kick = xp.concatenate([-push, push])
    x, y, vx, vy = x + apart * nx, y + apart * ny, vx + kick * nx, vy + kick * ny
    # each car against the ball, the lighter one
    dx, dy = bx - x, by - y
    d = xp.sqrt(dx * dx + dy * dy) + _TINY
    nx, ny = dx / d, dy / d
    deep = xp.clip(CAR + BALL - d, 0.0, CAR + BALL)
    closing = (vx - bvx) * nx + (vy - bvy) * ny
    hit = deep > 0
    impulse = xp.where(hit & (closing > 0), (1 + _HIT) * closing / (1 + _BALL_MASS), 0.0)
    vx, vy = vx - impulse * _BALL_MASS * nx, vy - impulse * _BALL_MASS * ny
    bvx, bvy = bvx + (impulse * nx).sum(0), bvy + (impulse * ny).sum(0)
    bx, by = bx + (deep * nx).sum(0), by + (deep * ny).sum(0)
    return xp.concatenate([bx, by, bvx, bvy, x, y, vx, vy, s[12:]]), hit


def _roll_ball(s: Array, over: Array, xp: ModuleType) -> tuple[Array, Array]:
    """The ball for DT: drag, bounces, and goals [2, B]; once a goal is scored (`over`) no other one counts."""
    bx, by, bvx, bvy = s[0], s[1], s[2], s[3]
    speed = xp.sqrt(bvx * bvx + bvy * bvy) + _TINY
    slow = math.exp(-_BALL_DRAG * DT) * xp.clip(BALL_SPEED / speed, 0.0, 1.0)
    bvx, bvy = bvx * slow, bvy * slow
    bx, by = bx + bvx * DT, by + bvy * DT
    wide, long = WIDTH - BALL, LENGTH - BALL
    bvy = xp.where((xp.abs(by) > wide) & (by * bvy > 0), -_WALL * bvy, bvy)
    by = xp.clip(by, -wide, wide)
    mouth = xp.abs(by) < GOAL
    bounce = (xp.abs(bx) > long) & ~mouth
    bvx = xp.where(bounce & (bx * bvx > 0), -_WALL * bvx, bvx)
    bx = xp.where(mouth, xp.clip(bx, -LENGTH - BALL, LENGTH + BALL), xp.clip(bx, -long, long))
    inside = mouth & ~(over[0] | over[1])
    return xp.concatenate([xp.stack([bx, by, bvx, bvy]), s[4:]]), xp.stack([
        inside & (bx > LENGTH), inside & (bx < -LENGTH)])


def _fill(s: Array, xp: ModuleType) -> Array:
    """Boost from the pads; the nearer car takes it, both where they are equally near."""
    wait = xp.clip(s[16:] - DT * SUBSTEPS, 0.0, PAD_WAIT)
    boost = s[14:16]
    waits = []
    for k, (px, py) in enumerate(PADS):
        dx, dy = s[4:6] - px, s[6:8] - py
        square = dx * dx + dy * dy
        first = square <= square[[1, 0]]
        taken = (square < PAD_RADIUS**2) & first & (wait[k] <= 0)
        boost = xp.clip(boost + PAD_BOOST * taken, 0.0, 100.0)
        waits.append(xp.where(taken[0] | taken[1], PAD_WAIT, wait[k]))
    return xp.concatenate([s[:14], boost, xp.stack(waits)])
