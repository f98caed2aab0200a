"""What CSL-UCB is compared with: Thompson sampling on the known graph, GOLEM and then greed, UCB on recent rewards."""

from __future__ import annotations

import math

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.optimize.bandits.causal import sem_of
from plaudit.optimize.bandits.policies import Policy, first_best
from plaudit.tasks.bandits.causal_graph import causal_order, means_of_all, on_of
from plaudit.tasks.bandits.protocol import Array, Bandit, Bools, Heard, Ints, Noise, as_numbers, positive

_WILD = 500.0  # squared weights of one node whose exponential would overflow


class LinSEMThompson(Policy):
    """Thompson sampling of the weights on the known graph: what knowing it is worth.

    Each column has the posterior N(V^{-1} g, V^{-1}) with V = I + sum x x^T / sigma^2 over its causes; the intervention
    of the largest sampled mean is played (Varici, Shanmugam, Sattigeri and Tajer, JMLR 2023).

    Example:
        >>> from plaudit.optimize.bandits import play
        >>> from plaudit.tasks.bandits import random_sem
        >>> bandit = random_sem(4, seed=0)
        >>> bool(play(bandit, LinSEMThompson(), rounds=200, runs=2, seed=0).mean_RT[:, -50:].mean() > 0.9 * bandit.best)
        True
    """

    name = "linsem-ts"

    def start(self, bandit: Bandit) -> None:
        world = sem_of(bandit, self.name)
        if world.means_SK is None:
            raise BadInput("bandit", expected="at most 16 nodes to intervene on", received=len(world.allowed))
        self.N, self.target, self.allowed, self.nu = world.N, world.target, world.allowed, world.nu
        self.variance_N = np.maximum(np.diag(world.Sigma), 1e-12)
        edge_NN = (world.B_SNN[0] != 0) | (world.B_prime_SNN[0] != 0)
        self.order = causal_order(edge_NN) or []
        self.cause_2NN = np.stack([world.B_SNN[0] != 0, world.B_prime_SNN[0] != 0]).transpose(0, 2, 1)  # [side, n, p]
        shape = (self.runs, 2, self.N, self.N)
        self.inverse = np.tile(np.eye(self.N), (self.runs, 2, self.N, 1, 1))
        self.moment, self.weight = np.zeros(shape), np.zeros(shape)
        self._normal = Noise(self.seeds, 2 * self.N * self.N, "normal")

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        z = self._normal.next().reshape(self.weight.shape)
        sampled = (self.weight + np.einsum("rsnij,rsnj->rsni", np.linalg.cholesky(self.inverse), z)) * self.cause_2NN
        arm = [first_best(means_of_all(b[0].T, b[1].T, self.nu, self.order, self.allowed)[None, :, self.target])[0]
               for b in sampled]
        return np.array(arm, dtype=np.int64)

    def update(self, round: int, heard: Heard) -> None:
        assert heard.seen_NM is not None
        x = heard.seen_NM.copy()
        x[:, self.target] = heard.reward_N
        side = on_of(heard.arm_N, self.N, self.allowed).astype(np.int64)
        at = heard.row_N[:, None], side, np.arange(self.N)[None]
        x_MNP = x[:, None, :] * self.cause_2NN[side, np.arange(self.N)]
        inverse = self.inverse[at]
        moved = np.einsum("mnij,mnj->mni", inverse, x_MNP)
        scale = 1 / (self.variance_N + (moved * x_MNP).sum(-1))
        inverse = inverse - moved[..., :, None] * moved[..., None, :] * scale[..., None, None]
        self.inverse[at] = inverse
        self.moment[at] += x_MNP * ((x - self.nu) / self.variance_N)[..., None]
        self.weight[at] = np.einsum("mnij,mnj->mni", inverse, self.moment[at])


def golem(x_SN: Array, *, sparse: float = 0.02, acyclic: float = 5.0, threshold: float = 0.3,
          refit: bool = True, most: int = 500) -> Array:
    """Weights B [N, N] by GOLEM-EV: a likelihood of equal variances with soft penalties (Ng, Ghassami and Zhang 2020).

    N/2 log ||X - X B||^2 - log|det(I - B)| + sparse ||B||_1 + acyclic (tr exp(B * B) - N), minimised by L-BFGS (the
    authors take 100,000 steps of Adam); weights of `threshold` and less are dropped, then the smallest until no ring is
    left.

    Args:
        x_SN: samples, any mean.
        sparse: the weight of the first penalty.
        acyclic: of the second.
        threshold: of weights.
        refit: least squares on the edges found, which undoes the shrinking.
        most: steps.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 2))
        >>> x[:, 1] += 1.5 * x[:, 0]
        >>> golem(x).round(0).tolist()
        [[0.0, 2.0], [0.0, 0.0]]
    """
    from scipy.optimize import minimize

    x_SN = as_numbers("x_SN", x_SN, ndim=2)
    moved = x_SN - x_SN.mean(0)
    N, gram = x_SN.shape[1], moved.T @ moved
    off = ~np.eye(N, dtype=bool)

    def loss(both: Array) -> tuple[float, Array]:
        B = np.zeros((N, N))
        B[off] = both[: off.sum()] - both[off.sum():]
        value, slope = _golem_loss(B, gram, acyclic)
        slope = slope[off]
        return value + sparse * float(both.sum()), np.concatenate([slope + sparse, sparse - slope])

    found = minimize(loss, np.zeros(2 * int(off.sum())), jac=True, method="L-BFGS-B", options={"maxiter": most},
                     bounds=[(0, None)] * (2 * int(off.sum())))
    B = np.zeros((N, N))
    B[off] = found.x[: off.sum()] - found.x[off.sum():]
    B = cut(B, threshold)
    return refitted(B, gram) if refit else B


def cut(B: Array, threshold: float = 0.3) -> Array:
    """Without the weights of `threshold` and less, and then without the smallest ones until no ring is left.

    Example:
        >>> cut(np.array([[0.0, 0.9], [0.5, 0.0]])).tolist()
        [[0.0, 0.9], [0.0, 0.0]]
    """
    B = np.where(np.abs(B) > threshold, B, 0.0)
    while causal_order(B != 0) is None:
        p, n = np.unravel_index(np.where(B != 0, np.abs(B), np.inf).argmin(), B.shape)
        B[p, n] = 0
    return B


def refitted(B: Array, gram: Array) -> Array:
    """Least squares on the edges of B, from the sums of products of the centred nodes."""
    out = np.zeros_like(B)
    for n in range(len(B)):
        causes = np.flatnonzero(B[:, n])
        if len(causes):
            out[causes, n] = np.linalg.lstsq(gram[np.ix_(causes, causes)], gram[causes, n], rcond=None)[0]
    return out


def _golem_loss(B: Array, gram: Array, acyclic: float) -> tuple[float, Array]:
    """The smooth part and its gradient."""
    N = len(B)
    rest = np.eye(N) - B
    error = float(np.trace(rest.T @ gram @ rest))
    sign, log = np.linalg.slogdet(rest)
    if sign == 0 or error <= 0 or (B * B).sum(0).max() > _WILD:  # the search goes back
        return 1e12, np.zeros_like(B)
    power = _exp(B * B)
    value = 0.5 * N * math.log(error) - log + acyclic * (float(np.trace(power)) - N)
    return value, -N * (gram @ rest) / error + np.linalg.inv(rest).T + acyclic * 2 * power.T * B


def _exp(A: Array) -> Array:
    """The exponential of a small matrix: fourteen terms of its series, scaled and squared."""
    halvings = max(0, math.frexp(float(np.abs(A).sum(0).max()))[1])
    step = A / 2.0**halvings
    term = out = np.eye(len(A))
    for i in range(1, 15):
        term = term @ step / i
        out = out + term
    for _ in range(halvings):
        out = out @ out
    return out


class GolemGreedy(Policy):
    """Nothing intervened on, then everything, then the graphs by `golem`, and from then on the best intervention.

    Args:
        explore: rounds of each of the two.

    Example:
        >>> from plaudit.optimize.bandits import play
        >>> from plaudit.tasks.bandits import random_sem
        >>> history = play(random_sem(4, seed=0), GolemGreedy(explore=100), rounds=250, runs=1, seed=0)
        >>> history.arm_RT[0, [0, 100]].tolist()
        [0, 15]
    """

    name = "golem-greedy"

    def __init__(self, *, explore: int = 300) -> None:
        if explore < 2:
            raise BadInput("explore", expected="at least 2 rounds", received=explore)
        self.explore = explore

    def start(self, bandit: Bandit) -> None:
        world = sem_of(bandit, self.name)
        if world.means_SK is None:
            raise BadInput("bandit", expected="at most 16 nodes to intervene on", received=len(world.allowed))
        self.world, self.arm_R = world, np.zeros(self.runs, dtype=np.int64)
        self.kept: list[list[list[Array]]] = [[[], []] for _ in range(self.runs)]

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        if round < 2 * self.explore:
            return np.full(self.runs, 0 if round < self.explore else self.K - 1, dtype=np.int64)
        if round == 2 * self.explore:
            for r, sides in enumerate(self.kept):
                self.arm_R[r] = self._best(*(golem(np.array(side)) for side in sides))
        return self.arm_R.copy()

    def update(self, round: int, heard: Heard) -> None:
        if round >= 2 * self.explore:
            return
        assert heard.seen_NM is not None
        for r, x, reward in zip(heard.row_N, heard.seen_NM, heard.reward_N, strict=True):
            seen = x.copy()
            seen[self.world.target] = reward
            self.kept[r][int(round >= self.explore)].append(seen)

    def _best(self, B: Array, B_prime: Array) -> int:
        from plaudit.tasks.bandits.causal_graph import mixed, solved

        on: Bools = on_of(np.arange(self.K), self.world.N, self.world.allowed)
        mean_KN, _ = solved(mixed(B, B_prime, on), self.world.nu, self.world.target)  # mixtures may have rings
        return int(first_best(np.nan_to_num(mean_KN[None, :, self.world.target], nan=-np.inf))[0])


class RecentUCB(Policy):
    """UCB with the mean of each arm's last rewards: mean of the last `window` + scale sqrt(log t / n).

    Args:
        window: rewards of an arm that count.
        scale: of the bonus, whose n is never forgotten (as in the code of CSL-UCB's authors).

    Example:
        >>> from plaudit.optimize.bandits import play
        >>> from plaudit.tasks.bandits import Changing
        >>> history = play(Changing([[0.1, 0.9], [0.9, 0.1]], changes=[300]), RecentUCB(), rounds=600, runs=2, seed=0)
        >>> bool((history.arm_RT[:, 550:].mean(1) < 0.5).all())
        True
    """

    name = "recent-ucb"

    def __init__(self, *, window: int = 10, scale: float = 1.0) -> None:
        if window < 1:
            raise BadInput("window", expected="at least 1 reward", received=window)
        self.window, self.scale = window, positive("scale", scale)

    def start(self, bandit: Bandit) -> None:
        self.kept_RKW = np.zeros((self.runs, self.K, self.window))
        self.count_RK = np.zeros((self.runs, self.K), dtype=np.int64)

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        if round < self.K:
            return np.full(self.runs, round, dtype=np.int64)
        count = np.maximum(self.count_RK, 1)
        mean = self.kept_RKW.sum(2) / np.minimum(count, self.window)
        index = mean + self.scale * math.sqrt(math.log(round)) / np.sqrt(count)
        return first_best(np.where(self.count_RK > 0, index, math.inf))

    def update(self, round: int, heard: Heard) -> None:
        for r, k, reward in zip(heard.row_N, heard.arm_N, heard.reward_N, strict=True):  # several of an arm at once
            self.kept_RKW[r, k, self.count_RK[r, k] % self.window] = reward
            self.count_RK[r, k] += 1
