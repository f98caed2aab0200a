"""Counting neighbours in a compiled loop: the same comparisons as `causal_information.counts` makes with NumPy.

Importing this needs the extra `fast`.
"""

from __future__ import annotations

import numpy as np

from plaudit.core.compiled import compiled


@compiled(exact=True)
def counts(x_N, y_MN, k):
    """n_x and n_y [2, M, N]; of equally near neighbours the first ones count."""
    M, N = y_MN.shape
    out = np.empty((2, M, N), dtype=np.int64)
    nearest, dx_k, dy_k = np.empty(k), np.empty(k), np.empty(k)
    for m in range(M):
        y_N = y_MN[m]
        for i in range(N):
            nearest[:] = np.inf
            for j in range(N):
                if j == i:
                    continue
                dx, dy = abs(x_N[i] - x_N[j]), abs(y_N[i] - y_N[j])
                far = max(dx, dy)
                if far >= nearest[k - 1]:
                    continue
                at = k - 1
                while at > 0 and far < nearest[at - 1]:
                    nearest[at], dx_k[at], dy_k[at] = nearest[at - 1], dx_k[at - 1], dy_k[at - 1]
                    at -= 1
                nearest[at], dx_k[at], dy_k[at] = far, dx, dy
            reach_x, reach_y = dx_k.max(), dy_k.max()
            n_x = n_y = 0
            for j in range(N):
                n_x += abs(x_N[i] - x_N[j]) <= reach_x
                n_y += abs(y_N[i] - y_N[j]) <= reach_y
            out[0, m, i], out[1, m, i] = n_x - 1, n_y - 1
    return out
