"""The classic tasks once more, one row at a time in compiled loops, for learners that run whole rollouts compiled.

The same equations as in the tasks' own modules, operation by operation; only sine and cosine may differ in the last
bit. A test holds each against its task. Importing this needs the extra `fast`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plaudit.core.compiled import compiled
from plaudit.tasks.classic.acrobot import Acrobot
from plaudit.tasks.classic.cartpole import CartPole
from plaudit.tasks.classic.mountain_car import MountainCar, MountainCarContinuous
from plaudit.tasks.classic.pendulum import Pendulum

CART_POLE, MOUNTAIN_CAR, MOUNTAIN_CAR_CONTINUOUS, PENDULUM, ACROBOT = 0, 1, 2, 3, 4
ENDS_IN_SUCCESS = (MOUNTAIN_CAR, MOUNTAIN_CAR_CONTINUOUS, ACROBOT)
"""Tasks whose `info["is_success"]` says that the world ended."""
_TAU = 2 * math.pi
_STEP, _COLUMN = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1342543DE82EF95)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def description(task: Any) -> tuple[int, np.ndarray] | None:
    """The number of a task here and its parameters; None for any other, subclasses too."""
    numbers: list[float]
    if type(task) is CartPole:
        kind, numbers = CART_POLE, [float(task.sutton_barto_reward)]
    elif type(task) is MountainCar or type(task) is MountainCarContinuous:
        kind = MOUNTAIN_CAR if type(task) is MountainCar else MOUNTAIN_CAR_CONTINUOUS
        numbers = [task.goal, task.goal_velocity]
    elif type(task) is Pendulum:
        kind, numbers = PENDULUM, [task.g]
    elif type(task) is Acrobot:
        kind, numbers = ACROBOT, []
    else:
        return None
    return kind, np.array([*numbers, 0.0])


# --- first states, as in `core.seeds` and `ArrayBatch` ------------------------------------------------------------


@compiled(exact=True, inner=True)
def _mix(x):
    x = (x ^ (x >> np.uint64(30))) * _FACTOR_1
    x = (x ^ (x >> np.uint64(27))) * _FACTOR_2
    return x ^ (x >> np.uint64(31))


@compiled(exact=True, inner=True)
def uniform(seed, counter, column):
    """`counter_uniform(seed, counter, k)[column]`."""
    key = _mix(_mix(np.uint64(seed) + _STEP) + np.uint64(counter) * _STEP)
    return float(_mix(key + np.uint64(column + 1) * _COLUMN) >> np.uint64(11)) * 2.0**-53


@compiled(exact=True, inner=True)
def episode_seed(root, episode):
    """`arrays.episode_seed` of one row."""
    if episode == 0:
        return root
    return (int(uniform(root, -1 - episode, 0) * 2.0**31) << 32) | int(uniform(root, -1 - episode, 1) * 2.0**32)


@compiled(exact=True, inner=True)
def begin(task, seed, state):
    """Writes the first state of an episode."""
    for k in range(len(state)):
        u = uniform(seed, 0, k)
        if task == CART_POLE:
            state[k] = u * 0.1 - 0.05
        elif task == PENDULUM:
            state[k] = (u * 2 - 1) * (math.pi if k == 0 else 1.0)
        elif task == ACROBOT:
            state[k] = np.float64(np.float32(u * 0.2 - 0.1))
        else:
            state[k] = u * 0.2 - 0.6 if k == 0 else 0.0


# --- dynamics ---------------------------------------------------------------------------------------------------


@compiled(exact=True, inner=True)
def advance(task, numbers, state, action):
    """One step of one row, in place; gives the reward and whether the world ended."""
    if task == CART_POLE:
        return _cart_pole(numbers, state, action[0])
    if task == PENDULUM:
        return _pendulum(numbers, state, action[0])
    if task == ACROBOT:
        return _acrobot(state, action[0])
    return _valley(task, numbers, state, action[0])


@compiled(exact=True, inner=True)
def observe(task, state, obs):
    """Writes the observation of one row."""
    if task == PENDULUM:
        obs[0], obs[1], obs[2] = math.cos(state[0]), math.sin(state[0]), state[1]
    elif task == ACROBOT:
        obs[0], obs[1], obs[2], obs[3] = math.cos(state[0]), math.sin(state[0]), math.cos(state[1]), math.sin(state[1])
        obs[4], obs[5] = state[2], state[3]
    else:
        for k in range(len(state)):
            obs[k] = state[k]


@compiled(exact=True, inner=True)
def _cart_pole(numbers, state, action):
    """`numbers`: whether the reward is Sutton and Barto's."""
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    cos, sin = math.cos(theta), math.sin(theta)
    push = (action * 20.0 - 10.0 + 0.05 * (theta_dot * theta_dot) * sin) / 1.1
    theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * (cos * cos) / 1.1))
    state[0], state[1] = x + 0.02 * x_dot, x_dot + 0.02 * (push - 0.05 * theta_acc * cos / 1.1)
    state[2], state[3] = theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc
    ended = abs(state[0]) > 2.4 or abs(state[2]) > 12 * _TAU / 360
    if numbers[0] > 0:
        return (-1.0 if ended else 0.0), ended
    return 1.0, ended


@compiled(exact=True, inner=True)
def _valley(task, numbers, state, action):
    """`numbers`: the goal's place and the least velocity there."""
    if task == MOUNTAIN_CAR:
        push = (action - 1) * 0.001
    else:
        push = min(max(action, -1.0), 1.0) * 0.0015
    velocity = min(max(state[1] + push - 0.0025 * math.cos(3 * state[0]), -0.07), 0.07)
    position = min(max(state[0] + velocity, -1.2), 0.6)
    if position == -1.2 and velocity < 0:
        velocity = 0.0
    arrived = position >= numbers[0] and velocity >= numbers[1]
    if task == MOUNTAIN_CAR:
        state[0], state[1] = position, velocity
        return -1.0, arrived
    state[0], state[1] = np.float64(np.float32(position)), np.float64(np.float32(velocity))
    return (100.0 if arrived else 0.0) - 0.1 * action * action, arrived


@compiled(exact=True, inner=True)
def _pendulum(numbers, state, action):
    """`numbers`: gravity."""
    theta, theta_dot = state[0], state[1]
    torque = min(max(action, -2.0), 2.0)
    upright = (theta + math.pi) % _TAU - math.pi
    cost = upright * upright + 0.1 * theta_dot * theta_dot + 0.001 * torque * torque
    faster = theta_dot + (3 * numbers[0] / 2 * math.sin(theta) + 3.0 * torque) * 0.05
    faster = min(max(faster, -8.0), 8.0)
    state[0], state[1] = theta + faster * 0.05, faster
    return -cost, False


@compiled(exact=True, inner=True)
def _acrobot(state, action):
    torque = action - 1.0
    t1, t2, v1, v2 = state[0], state[1], state[2], state[3]
    a1, a2, a3, a4 = _slope(t1, t2, v1, v2, torque)
    b1, b2, b3, b4 = _slope(t1 + 0.1 * a1, t2 + 0.1 * a2, v1 + 0.1 * a3, v2 + 0.1 * a4, torque)
    c1, c2, c3, c4 = _slope(t1 + 0.1 * b1, t2 + 0.1 * b2, v1 + 0.1 * b3, v2 + 0.1 * b4, torque)
    d1, d2, d3, d4 = _slope(t1 + 0.2 * c1, t2 + 0.2 * c2, v1 + 0.2 * c3, v2 + 0.2 * c4, torque)
    sixth = 0.2 / 6.0
    t1 = _wrap(t1 + sixth * (a1 + 2 * b1 + 2 * c1 + d1))
    t2 = _wrap(t2 + sixth * (a2 + 2 * b2 + 2 * c2 + d2))
    v1 = v1 + sixth * (a3 + 2 * b3 + 2 * c3 + d3)
    v2 = v2 + sixth * (a4 + 2 * b4 + 2 * c4 + d4)
    state[0], state[1] = t1, t2
    state[2] = min(max(v1, -4 * math.pi), 4 * math.pi)
    state[3] = min(max(v2, -9 * math.pi), 9 * math.pi)
    above = -math.cos(t1) - math.cos(t2 + t1) > 1.0
    return (0.0 if above else -1.0), above


@compiled(exact=True, inner=True)
def _slope(t1, t2, v1, v2, torque):
    cos2, sin2 = math.cos(t2), math.sin(t2)
    d1 = 0.25 + (1.25 + cos2) + 2.0
    d2 = 0.25 + 0.5 * cos2 + 1.0
    phi2 = 4.9 * math.cos(t1 + t2 - math.pi / 2)
    phi1 = -0.5 * v2 * v2 * sin2 - v2 * v1 * sin2 + 1.5 * 9.8 * math.cos(t1 - math.pi / 2) + phi2
    a2 = (torque + d2 / d1 * phi1 - 0.5 * v1 * v1 * sin2 - phi2) / (1.25 - d2 * d2 / d1)
    return v1, v2, -(d2 * a2 + phi1) / d1, a2


@compiled(exact=True, inner=True)
def _wrap(angle):
    if angle > math.pi:
        return angle - math.ceil((angle - math.pi) / _TAU) * _TAU
    if angle < -math.pi:
        return angle + math.ceil((-angle - math.pi) / _TAU) * _TAU
    return angle
