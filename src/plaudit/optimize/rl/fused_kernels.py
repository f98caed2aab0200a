"""PPO's arithmetic in compiled loops: one member at a time, so that its minibatch stays in the core's cache.

Letters as everywhere (P members, M steps, D features, K actions, O outputs), m steps of one minibatch. The dtype is
that of the arrays. Needs Numba; imported by `fused` alone, when it is used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plaudit.core.compiled import compiled

TANH, RELU, EXACT_TANH, LINEAR = 0, 1, 2, 3
"""Activations; `EXACT_TANH` is the library's, slower, to measure the other against."""
CATEGORICAL, GAUSSIAN = 0, 1
"""Heads."""
NUMBERS = 6
"""What is measured of every minibatch: policy loss, value loss, entropy, KL, share clipped, norm of the gradient."""

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_F = np.float32
_ONE, _LIMIT = _F(1), _F(7.90531110763549805)
_A1, _A3, _A5 = _F(4.89352455891786e-03), _F(6.37261928875436e-04), _F(1.48572235717979e-05)
_A7, _A9, _A11 = _F(5.12229709037114e-08), _F(-8.60467152213735e-11), _F(2.00018790482477e-13)
_A13 = _F(-2.76076847742355e-16)
_B0, _B2, _B4 = _F(4.89352518554385e-03), _F(2.26843463243900e-03), _F(1.18534705686654e-04)
_B6 = _F(1.19825839466702e-06)


@compiled(inner=True)
def _tanh(x):
    """A quotient of polynomials (that of the Eigen library), a few units in the last place of float32 off."""
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    s = x * x
    over = x * (((((((_A13 * s + _A11) * s + _A9) * s + _A7) * s + _A5) * s + _A3) * s) + _A1)
    return over / (((_B6 * s + _B4) * s + _B2) * s + _B0)


@compiled(inner=True)
def _activate(h, bias, kind):
    m, n = h.shape
    if kind == TANH:
        for i in range(m):
            for j in range(n):
                h[i, j] = _tanh(h[i, j] + bias[j])
    elif kind == RELU:
        for i in range(m):
            for j in range(n):
                z = h[i, j] + bias[j]
                h[i, j] = z - z if z < 0 else z
    elif kind == EXACT_TANH:
        for i in range(m):
            for j in range(n):
                h[i, j] = math.tanh(h[i, j] + bias[j])
    else:
        for i in range(m):
            for j in range(n):
                h[i, j] += bias[j]


@compiled(inner=True)
def forward(weights, sizes, kind, x, hidden):
    """The outputs [m, O]; `hidden` keeps the outputs of all layers one after the other."""
    m, depth = x.shape[0], len(sizes) - 1
    h, w, b = x, 0, 0
    for layer in range(depth):
        i, o = sizes[layer], sizes[layer + 1]
        out = hidden[b:b + m * o].reshape(m, o)
        np.dot(h, weights[w:w + i * o].reshape(i, o), out)
        _activate(out, weights[w + i * o:w + i * o + o], kind if layer < depth - 1 else LINEAR)
        h, w, b = out, w + i * o + o, b + m * o
    return h


@compiled(inner=True)
def backward(weights, grad, sizes, kind, x, hidden, delta, scratch):
    """Fills `grad` from the gradient [m, O] at the outputs; `scratch` holds two layers."""
    m, depth = x.shape[0], len(sizes) - 1
    w, b = 0, 0
    for layer in range(depth):
        w += (sizes[layer] + 1) * sizes[layer + 1]
        b += m * sizes[layer + 1]
    d = delta
    for layer in range(depth - 1, -1, -1):
        i, o = sizes[layer], sizes[layer + 1]
        w -= (i + 1) * o
        b -= m * o
        h = x if layer == 0 else hidden[b - m * i:b].reshape(m, i)
        np.dot(h.T, d, grad[w:w + i * o].reshape(i, o))
        bias = grad[w + i * o:w + i * o + o]
        for j in range(o):
            bias[j] = 0
        for r in range(m):
            for j in range(o):
                bias[j] += d[r, j]
        if layer > 0:
            start = (layer % 2) * (len(scratch) // 2)
            below = scratch[start:start + m * i].reshape(m, i)
            np.dot(d, weights[w:w + i * o].reshape(i, o).T, below)
            _times_slope(below, h, kind)
            d = below


@compiled(inner=True)
def _times_slope(d, h, kind):
    m, n = d.shape
    if kind == RELU:
        for i in range(m):
            for j in range(n):
                d[i, j] = d[i, j] if h[i, j] > 0 else d[i, j] - d[i, j]
    else:
        for i in range(m):
            for j in range(n):
                d[i, j] *= _ONE - h[i, j] * h[i, j]


@compiled(inner=True)
def _standardise(advantage, weight):
    """Zero mean and unit deviation among the steps with weight, in place (`losses.normalise_advantage`)."""
    total, mean = 0.0, 0.0
    for i in range(len(advantage)):
        total += weight[i]
        mean += weight[i] * advantage[i]
    total = max(total, 1e-8)
    mean /= total
    square = 0.0
    for i in range(len(advantage)):
        advantage[i] -= mean
        square += weight[i] * advantage[i] * advantage[i]
    scale = 1.0 / (math.sqrt(square / total) + 1e-8)
    for i in range(len(advantage)):
        advantage[i] *= scale


@compiled(inner=True)
def _categorical(out, raw, choices, delta):
    """log pi(raw) and the entropy of one step; leaves log p in `out`, p in `delta`."""
    log_prob, entropy, first = 0.0, 0.0, 0
    for k in range(len(choices)):
        n = choices[k]
        top = out[first]
        for j in range(first + 1, first + n):
            top = out[j] if out[j] > top else top
        total = 0.0
        for j in range(first, first + n):
            delta[j] = math.exp(out[j] - top)
            total += delta[j]
        shift = top + math.log(total)
        for j in range(first, first + n):
            out[j] -= shift
            delta[j] /= total
            entropy -= delta[j] * out[j]
        log_prob += out[first + int(raw[k])]
        first += n
    return log_prob, entropy


@compiled(inner=True)
def _categorical_delta(out, raw, choices, delta, towards, bonus):
    """The gradient at the logits: `towards` of log pi(raw), `bonus` of minus the entropy."""
    first = 0
    for k in range(len(choices)):
        n = choices[k]
        entropy = 0.0
        for j in range(first, first + n):
            entropy -= delta[j] * out[j]
        for j in range(first, first + n):
            delta[j] = bonus * delta[j] * (out[j] + entropy) - towards * delta[j]
        delta[first + int(raw[k])] += towards
        first += n


@compiled(inner=True)
def _gaussian(mean, log_std, raw):
    log_prob, entropy = 0.0, 0.0
    for k in range(len(raw)):
        z = (raw[k] - mean[k]) * math.exp(-log_std[k])
        log_prob -= 0.5 * z * z + log_std[k] + _HALF_LOG_TAU
        entropy += log_std[k] + 0.5 + _HALF_LOG_TAU
    return log_prob, entropy


@compiled(inner=True)
def _gaussian_delta(mean, log_std, raw, delta, free_grad, towards, bonus):
    for k in range(len(raw)):
        inverse = math.exp(-log_std[k])
        z = (raw[k] - mean[k]) * inverse
        delta[k] = towards * z * inverse
        free_grad[k] += towards * (z * z - 1) - bonus


@compiled(inner=True)
def log_prob_of(head, choices, out, raw):
    """log pi(raw) of one step from all outputs of its policy."""
    if head != CATEGORICAL:
        return _gaussian(out[:len(raw)], out[len(raw):], raw)[0]
    log_prob, first = 0.0, 0
    for k in range(len(choices)):
        top, total = out[first], 0.0
        for j in range(first + 1, first + choices[k]):
            top = out[j] if out[j] > top else top
        for j in range(first, first + choices[k]):
            total += math.exp(out[j] - top)
        log_prob += out[first + int(raw[k])] - top - math.log(total)
        first += choices[k]
    return log_prob


@compiled(inner=True)
def policy_part(head, choices, out, free, free_grad, raw, old, advantage, weight, delta, clip, entropy_coef, numbers):
    """The clipped surrogate and the entropy bonus of a minibatch: `delta`, `free_grad` and four of the numbers."""
    m = len(old)
    total = 0.0
    for i in range(m):
        total += weight[i]
    total = max(total, 1e-8)
    for k in range(len(free_grad)):
        free_grad[k] = 0
    loss, bonus, kl, clipped = 0.0, 0.0, 0.0, 0.0
    for i in range(m):
        if head == CATEGORICAL:
            log_prob, entropy = _categorical(out[i], raw[i], choices, delta[i])
        else:
            log_prob, entropy = _gaussian(out[i], free, raw[i])
        log_ratio = log_prob - old[i]
        ratio, share = math.exp(log_ratio), weight[i] / total
        limited = min(max(ratio, 1 - clip), 1 + clip)
        plain, bounded = ratio * advantage[i], limited * advantage[i]
        towards = -share * plain if plain <= bounded else 0.0
        loss -= share * min(plain, bounded)
        bonus += share * entropy
        kl += share * (ratio - 1 - log_ratio)
        if abs(ratio - 1) > clip:
            clipped += share
        if head == CATEGORICAL:
            _categorical_delta(out[i], raw[i], choices, delta[i], towards, entropy_coef * share)
        else:
            _gaussian_delta(out[i], free, raw[i], delta[i], free_grad, towards, entropy_coef * share)
    numbers[0], numbers[2], numbers[3], numbers[4] = loss, bonus, kl, clipped


@compiled(inner=True)
def value_part(value, target, old, weight, delta, limit, coef):
    """The squared error of the values (clipped where limit >= 0): fills `delta`, gives the mean error."""
    m = len(target)
    total = 0.0
    for i in range(m):
        total += weight[i]
    total = max(total, 1e-8)
    error = 0.0
    for i in range(m):
        gap = value[i, 0] - target[i]
        square, slope = gap * gap, 2 * gap
        if limit >= 0:
            moved = value[i, 0] - old[i]
            if abs(moved) > limit:
                near = old[i] + (limit if moved > 0 else -limit) - target[i]
                if near * near > square:
                    square, slope = near * near, 0 * gap
        error += weight[i] * square
        delta[i, 0] = 0.5 * coef * slope * weight[i] / total
    return error / total


@compiled(inner=True)
def adam(weights, grad, mean, square, factor, step, root, fresh, keep, fresh_square, eps):
    """One step of Adam (`core.stacked_adam`), the gradient times `factor`; `keep` is 1 - `fresh_square`."""
    for i in range(len(weights)):
        g = grad[i] * factor
        mean[i] += fresh * (g - mean[i])
        square[i] = keep * square[i] + fresh_square * g * g
        weights[i] -= mean[i] / (np.sqrt(square[i]) / root + eps) * step


@compiled(inner=True)
def minibatch(x, raw, old, advantage, target, value, weight, net, critic, net_sizes, critic_sizes, kind, head, choices,
              clip, entropy_coef, value_coef, value_limit, net_grad, critic_grad, hidden, scratch, deltas, numbers):
    """Gradients of both networks for one minibatch, and what is measured of it."""
    m, outputs = x.shape[0], net_sizes[-1]
    free = len(net) - (0 if head == CATEGORICAL else choices[0])
    out = forward(net, net_sizes, kind, x, hidden)
    delta = deltas[:m * outputs].reshape(m, outputs)
    policy_part(head, choices, out, net[free:], net_grad[free:], raw, old, advantage, weight, delta, clip, entropy_coef,
                numbers)
    backward(net, net_grad, net_sizes, kind, x, hidden, delta, scratch)
    out = forward(critic, critic_sizes, kind, x, hidden)
    delta = deltas[:m].reshape(m, 1)
    numbers[1] = value_part(out, target, value, weight, delta, value_limit, value_coef)
    backward(critic, critic_grad, critic_sizes, kind, x, hidden, delta, scratch)
    square = 0.0
    for i in range(len(net_grad)):
        square += net_grad[i] * net_grad[i]
    for i in range(len(critic_grad)):
        square += critic_grad[i] * critic_grad[i]
    numbers[5] = math.sqrt(square)


def room_for(steps: int, parts: int, net_sizes: np.ndarray, critic_sizes: np.ndarray, columns: int,
             dtype: Any) -> np.ndarray:
    """Memory for `update`: layers, two layers, outputs, a minibatch, and the gradients of both networks."""
    most, both = steps // parts + 1, (net_sizes, critic_sizes)
    widest = max(int(s.max()) for s in both)
    parameters = max(int(((s[:-1] + 1) * s[1:]).sum()) + int(s[-1]) for s in both)
    needed = (most * max(int(s[1:].sum()) for s in both), 2 * most * widest, most * (columns + 5), parameters)
    return np.zeros((6, max(needed)), dtype)


@compiled
def update(x, raw, steps, order, parts, net, critic, net_mean, net_square, critic_mean, critic_square, count, net_sizes,
           critic_sizes, kind, head, choices, rates, standardise, target_kl, value_limit, b1, b2, eps, room, sums):
    """All epochs of all members.

    Args:
        x: [P, M, D].
        raw: [P, M, K].
        steps: [P, 5, M]: old log pi, advantage, target, old value, weight.
        order: [P, epochs, M].
        parts: How many minibatches an epoch has.
        net: [P, W], changed.
        critic: [P, W], changed.
        net_mean: [P, W], changed: Adam's first moment.
        net_square: The second.
        critic_mean: Likewise.
        critic_square: Likewise.
        count: [P, 1], changed: Adam's steps.
        net_sizes: Widths of the layers.
        critic_sizes: Likewise.
        kind: The activation.
        head: The head.
        choices: The options of each choice; the number of actions of a Gaussian.
        rates: [P, 5]: step size, clip, weight of the entropy, weight of the values, largest norm.
        standardise: Whether advantages are.
        target_kl: Where a member stops; negative for never.
        value_limit: How far a value may move; negative for freely.
        b1: Adam's.
        b2: Likewise.
        eps: Likewise.
        room: [6, ...], of `room_for`: memory to work in.
        sums: [P, NUMBERS], zeros; filled with the means over all minibatches.
    """
    (P, M, D), real = x.shape, x.dtype.type
    (K, epochs), W, V = (raw.shape[2], order.shape[1]), net.shape[1], critic.shape[1]
    most = M // parts + 1
    hidden, scratch, deltas, rest = room[0], room[1], room[2], room[3]
    net_grad, critic_grad = room[4, :W], room[5, :V]
    all_x, all_raw = rest[:most * D].reshape(most, D), rest[most * D:most * (D + K)].reshape(most, K)
    all_steps = rest[most * (D + K):most * (D + K + 5)].reshape(5, most)
    numbers = np.zeros(NUMBERS)
    for p in range(P):
        active = True
        for epoch in range(epochs):
            start = 0
            for part in range(parts):
                m = M // parts + (1 if part < M % parts else 0)
                for i in range(m):
                    n = order[p, epoch, start + i]
                    for c in range(D):
                        all_x[i, c] = x[p, n, c]
                    for c in range(K):
                        all_raw[i, c] = raw[p, n, c]
                    for c in range(5):
                        all_steps[c, i] = steps[p, c, n]
                start += m
                weight, advantage = all_steps[4, :m], all_steps[1, :m]
                if standardise:
                    _standardise(advantage, weight)
                minibatch(all_x[:m], all_raw[:m], all_steps[0, :m], advantage, all_steps[2, :m], all_steps[3, :m],
                          weight, net[p], critic[p], net_sizes, critic_sizes, kind, head, choices, rates[p, 1],
                          rates[p, 2], rates[p, 3], value_limit, net_grad, critic_grad, hidden, scratch, deltas,
                          numbers)
                for c in range(NUMBERS):
                    sums[p, c] += numbers[c] / (parts * epochs)
                active = active and (target_kl < 0 or numbers[3] <= 1.5 * target_kl)
                if active:
                    count[p, 0] += 1
                    factor = min(1.0, rates[p, 4] / (numbers[5] + 1e-6))
                    step, root = rates[p, 0] / (1 - b1 ** count[p, 0]), math.sqrt(1 - b2 ** count[p, 0])
                    factor, step, root = real(factor), real(step), real(root)
                    adam(net[p], net_grad, net_mean[p], net_square[p], factor, step, root, real(1 - b1), real(b2),
                         real(1 - b2), real(eps))
                    adam(critic[p], critic_grad, critic_mean[p], critic_square[p], factor, step, root, real(1 - b1),
                         real(b2), real(1 - b2), real(eps))
