"""Grid worlds from a drawing in characters, batched, with the exact tabular MDP behind them.

Letters: S states (cell x flags), A actions, M actions as they are carried out, B rows, D features of obs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.tasks.arrays import Array, ArrayTask, Moved
from plaudit.tasks.features import DEFAULTS, FEATURES, Feature, Moment, Place
from plaudit.tasks.tabular import TabularMDP

_MOVES = {"north": (-1, 0), "east": (0, 1), "south": (1, 0), "west": (0, -1)}
_LIMIT = 20_000_000
_CHUNK = 500_000


class GridWorld(ArrayTask):
    """An agent on a map: `#` wall, space or `.` floor, `S` starts (uniform), other letters are features.

    Without a feature of your own, `G` is a goal, `C` a checkpoint, `D` dirt, `L` lava, `T` a trap and `B` a
    coin. The state is (cell, flags); an observation is [row / (H - 1), column / (W - 1), each flag scaled to
    [0, 1]] (`obs_names` says which is which), or with `one_hot` the cell as a one-hot vector before the flags.

    `info` holds `state` and `next_state` (indices), `is_success`, `event_NAME` (bool) for each event of the
    features, and their measures. Which features came about is a function of (state, move).

    Args:
        map: rows of characters, of one length.
        features: what letters mean; they win over the defaults.
        slip: the probability that a move goes in a uniformly random direction instead.
        step_reward: added at each step.
        stay: adds the action `stay`.
        horizon: steps until truncation.
        one_hot: the form of the observation.
        name: shown in reports.

    Raises:
        BadInput: when the map has no start, unequal rows or an unknown letter, or there are too many states.

    Example:
        >>> world = GridWorld("S.G", step_reward=-0.1)
        >>> world.action_names, world.S, world.tabular(discount=0.9)
        (('north', 'east', 'south', 'west'), 3, TabularMDP(S=3, A=4, dense, batch=[], discount=0.9))
    """

    reset_dims = 1

    def __init__(self, map: str, features: Sequence[Feature] = (), *, slip: float = 0.0, step_reward: float = 0.0,
                 stay: bool = False, horizon: int = 100, one_hot: bool = False, name: str = "GridWorld") -> None:
        if not 0 <= slip <= 1:
            raise BadInput("slip", expected="a probability", received=slip)
        self.name, self.horizon, self.one_hot, self.stay = name, horizon, one_hot, stay
        self.slip, self.step_reward = float(slip), float(step_reward)
        self.map = _rows(map)
        self.H, self.W = len(self.map), len(self.map[0])
        self.features = _features(self.map, features)
        self._read_map()
        self.action_names = (*_MOVES, *(("stay",) if stay else ()), *(a for f in self.features for a in f.actions))
        self.action_space = gymnasium.spaces.Discrete(len(self.action_names))
        self.flag_sizes = {k: n for f in self.features for k, n in f.flags(len(self.positions[f.letter])).items()}
        self.F = int(np.prod([*self.flag_sizes.values(), 1]))
        self.S = len(self.cells) * self.F
        if self.S * len(self.action_names) > _LIMIT:
            raise BadInput("map", expected=f"at most {_LIMIT:,} states times actions",
                           received=f"{self.S:,} states, {len(self.action_names)} actions",
                           fix="use fewer features that remember, or a smaller map")
        self.step_dims = 2 if self.slip else 0
        self._tables: dict[Any, dict[str, Any]] = {}
        self._build()
        self.obs_names = (*([f"cell_{i}" for i in range(len(self.cells))] if one_hot else ("row", "column")),
                          *self.flag_sizes)
        self.obs_space = gymnasium.spaces.Box(0.0, 1.0, (len(self.obs_names),), dtype=np.float32)

    # --- the table --------------------------------------------------------------------------------------

    def _read_map(self) -> None:
        letters = np.array([list(row) for row in self.map])
        self.cells = np.argwhere(letters != "#")
        """[cells, 2]: row and column of each cell that is no wall."""
        self._index = np.full(letters.shape, -1)
        self._index[tuple(self.cells.T)] = np.arange(len(self.cells))
        stands = letters[tuple(self.cells.T)]
        self.starts = np.flatnonzero(stands == "S")
        self.positions = {f.letter: np.flatnonzero(stands == f.letter) for f in self.features}
        self._number: dict[str, np.ndarray] = {}
        for letter, cells in self.positions.items():
            self._number[letter] = np.full(len(self.cells), -1)
            self._number[letter][cells] = np.arange(len(cells))
        goes = []
        for dr, dc in _MOVES.values():
            row, column = self.cells[:, 0] + dr, self.cells[:, 1] + dc
            inside = (row >= 0) & (row < self.H) & (column >= 0) & (column < self.W)
            target = np.where(inside, self._index[row % self.H, column % self.W], -1)
            goes.append(np.where(target >= 0, target, np.arange(len(self.cells))))
        self._goes = np.stack(goes)

    def _build(self) -> None:
        S, M = self.S, len(self.action_names)
        state, move = np.divmod(np.arange(S * M), M)
        place = self.place(state)
        goes = np.concatenate([self._goes, np.tile(np.arange(len(self.cells)), (M - len(_MOVES), 1))])
        moment = Moment(cell=goes[move, place.cell], flags=place.flags, number=self._number, before=place.cell,
                        action=np.array(self.action_names)[move], reward=np.full(S * M, self.step_reward),
                        success=np.zeros(S * M, dtype=bool))
        for feature in self.features:
            feature.steer(moment)
        for feature in self.features:
            feature.apply(moment)
        self.terminal = self._ended(self.place(np.arange(S)))
        live = ~self.terminal[state]
        shape = lambda x: x.reshape(S, M)  # noqa: E731
        after = moment.cell * self.F + self._flag_code(moment.flags)
        self.next_state = shape(np.where(live, after, state))
        self.reward = shape(np.where(live, moment.reward, 0.0))
        measures = {k: v for f in self.features for k, v in f.measures(self.place(np.arange(S))).items()}
        self._facts = {"is_success": shape(moment.success & live),
                       **{f"event_{k}": shape(v & live) for k, v in moment.events.items()}}
        self._measures = {k: v.astype(np.float32) for k, v in measures.items()}
        self._flag_table = self._flag_values()

    def place(self, state: np.ndarray) -> Place:
        """What states [N] mean: the cell and each flag's value."""
        cell, code = np.divmod(state, self.F)
        flags = {}
        for flag, size in reversed(self.flag_sizes.items()):
            code, flags[flag] = np.divmod(code, size)
        return Place(cell=cell, flags=flags, number=self._number)

    def _flag_code(self, flags: Mapping[str, np.ndarray]) -> np.ndarray:
        code = np.zeros(len(next(iter(flags.values()))) if flags else 1, dtype=np.int64)
        for flag, size in self.flag_sizes.items():
            code = code * size + flags[flag]
        return code

    def _ended(self, place: Place) -> np.ndarray:
        out = np.zeros(self.S, dtype=bool)
        for feature in self.features:
            ends = feature.ends(place)
            if ends is not None:
                out |= ends
        return out

    def _flag_values(self) -> np.ndarray:
        flags = self.place(np.arange(self.F)).flags
        scaled = [flags[k] / max(1, size - 1) for k, size in self.flag_sizes.items()]
        return np.stack(scaled, -1).astype(np.float32) if scaled else np.zeros((1, 0), dtype=np.float32)

    # --- the pure functions of an ArrayTask ---------------------------------------------------------------

    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        table = self._on(uniform_KB, xp)
        pick = uniform_KB[0] * len(self.starts)
        return table["first"][pick.astype(np.int64) if xp is np else pick.long()][None]

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        table = self._on(state_KB, xp)
        state, move = state_KB[0], action_B
        if uniform_KB is not None:
            astray = uniform_KB[1] * len(_MOVES)
            astray = astray.astype(np.int64) if xp is np else astray.long()
            move = xp.where((uniform_KB[0] < self.slip) & (action_B < len(_MOVES)), astray, action_B)
        after = table["next"][state, move]
        info = {"state": state + 0, "next_state": after}
        info.update({k: v[state, move] for k, v in table["facts"].items()})
        info.update({k: v[after] for k, v in table["measures"].items()})
        return Moved(state=after[None] + 0, reward=table["reward"][state, move], terminated=table["terminal"][after],
                     info=info)

    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        table = self._on(state_KB, xp)
        where, flags = table["where"][state_KB[0] // self.F], table["flags"][state_KB[0] % self.F]
        return np.concatenate([where, flags], -1) if xp is np else torch.cat([where, flags], -1)

    def _on(self, like: Array, xp: ModuleType) -> dict[str, Any]:
        """The tables as arrays beside `like`, made once for each device."""
        key = "numpy" if xp is np else like.device
        if key not in self._tables:
            put: Callable[[np.ndarray], Array] = (lambda x: x) if xp is np else (
                lambda x: torch.from_numpy(x).to(like.device))
            self._tables[key] = {
                "next": put(self.next_state), "reward": put(self.reward), "terminal": put(self.terminal),
                "first": put(self.starts * self.F), "flags": put(self._flag_table), "where": put(self._where()),
                "facts": {k: put(v) for k, v in self._facts.items()},
                "measures": {k: put(v) for k, v in self._measures.items()}}
        return self._tables[key]

    def _where(self) -> np.ndarray:
        if self.one_hot:
            return np.eye(len(self.cells), dtype=np.float32)
        return (self.cells / np.maximum([self.H - 1, self.W - 1], 1)).astype(np.float32)

    # --- exact -------------------------------------------------------------------------------------------

    def tabular(self, reward: Reward | Callable[..., Any] | None = None, *, discount: float = 0.99,
                sparse: bool | None = None) -> TabularMDP:
        """The exact process: every transition with its probability and reward.

        Where a slip and the move itself lead to the same state with different rewards, the entry is their average.

        Args:
            reward: a reward of single steps, computed on every transition; None for the world's own.
            discount: in [0, 1).
            sparse: the form, or None to let the size decide.

        Raises:
            Unsupported: when the reward reads the past, whole episodes or other rows.
            UnknownReward: when it has no number for some transition.

        Example:
            >>> east = lambda obs, next_obs: next_obs[..., 1] - obs[..., 1]
            >>> GridWorld("SG").tabular(east).expected_reward()[0].tolist()
            [0.0, 1.0, 0.0, 0.0]
        """
        state, action, move, probability = self._entries()
        after = self.next_state[state, move]
        paid = self.reward[state, move] if reward is None else self._evaluate(reward, state, action, move)
        initial = np.bincount(self.starts * self.F, minlength=self.S) / len(self.starts)
        return TabularMDP.of_transitions(
            state=state, action=action, next_state=after, probability=probability, reward=paid, states=self.S,
            actions=len(self.action_names), initial=initial, terminal=self.terminal, discount=discount, sparse=sparse)

    def index(self, obs: Tensor) -> Int[Tensor, "..."]:
        """The states that observations [..., D] show.

        Example:
            >>> world = GridWorld("S.G")
            >>> world.index(world.make(1).reset([0])).tolist()
            [0]
        """
        obs = obs.detach().cpu()
        wide = len(self.cells) if self.one_hot else 2
        if self.one_hot:
            cell = obs[..., :wide].argmax(-1)
        else:
            row, column = (obs[..., 0] * (self.H - 1)).round().long(), (obs[..., 1] * (self.W - 1)).round().long()
            cell = torch.from_numpy(self._index)[row, column]
        code = torch.zeros_like(cell)
        for i, size in enumerate(self.flag_sizes.values()):
            code = code * size + (obs[..., wide + i] * (size - 1)).round().long()
        return cell * self.F + code

    def transitions(self) -> Episodes:
        """Every transition that can happen, as a batch of one-step episodes (`action` is the one chosen)."""
        state, action, move, _ = self._entries()
        return self._episodes(state, action, move)

    def _entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """State, action, the move carried out and its probability, for all that can happen."""
        M, n = len(self.action_names), len(_MOVES)
        chance = np.eye(M)
        chance[:n, :n] = (1 - self.slip) * np.eye(n) + self.slip / n
        action, move = chance.nonzero()
        live = np.flatnonzero(~self.terminal)
        repeat = len(action)
        return (np.repeat(live, repeat), np.tile(action, len(live)), np.tile(move, len(live)),
                np.tile(chance[action, move], len(live)))

    def _evaluate(self, reward: Reward | Callable[..., Any], state: np.ndarray, action: np.ndarray,
                  move: np.ndarray) -> np.ndarray:
        if not isinstance(reward, Reward):
            from plaudit.core.functions import reward as as_reward

            reward = as_reward(reward)
        if reward.needs.time != "step" or reward.needs.across != "row":
            raise Unsupported(f"{reward.name} reads more than one step (time={reward.needs.time}, across="
                              f"{reward.needs.across}), so it is no reward of a decision process over this state")
        parts = [slice(i, i + _CHUNK) for i in range(0, len(state), _CHUNK)]
        paid = [reward(self._episodes(state[p], action[p], move[p]))[:, 0] for p in parts]
        return torch.cat(paid).double().numpy()

    def _episodes(self, state: np.ndarray, action: np.ndarray, move: np.ndarray) -> Episodes:
        moved = self.advance(state[None], move, None, np)
        return Episodes.of_transitions(
            obs=torch.from_numpy(self.observe(state[None], np)), action=torch.from_numpy(action.astype(np.int64)),
            next_obs=torch.from_numpy(self.observe(moved.state, np)), terminated=torch.from_numpy(moved.terminated),
            env_reward=torch.from_numpy(moved.reward.astype(np.float32)),
            info={k: torch.from_numpy(v) for k, v in moved.info.items()})

    # --- written down, drawn -----------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        for feature in self.features:
            if FEATURES.get(type(feature).__name__) is not type(feature):
                raise Unsupported(f"{type(feature).__name__} is no built-in feature, so this world cannot be written "
                                  "as JSON; make it in a function of a file and name that")
        return {"kind": "gridworld", "map": "\n".join(self.map), "name": self.name, "slip": self.slip,
                "step_reward": self.step_reward, "stay": self.stay, "horizon": self.horizon, "one_hot": self.one_hot,
                "features": [{"type": type(f).__name__, **dataclasses.asdict(f)} for f in self.features]}

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> GridWorld:
        """The world that `spec` describes.

        Raises:
            BadInput: when it names an unknown feature or argument.
        """
        options = {k: v for k, v in spec.items() if k not in ("kind", "features")}
        try:
            features = [FEATURES[f["type"]](**{k: v for k, v in f.items() if k != "type"}) for f in spec["features"]]
            return GridWorld(options.pop("map"), features, **options)
        except (KeyError, TypeError) as error:
            raise BadInput("spec", expected=f"a grid world with features out of {sorted(FEATURES)}",
                           received=str(error)) from error

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray:
        from plaudit.tasks.gridworld_drawing import draw_state

        return draw_state(self, int(state_K[0]))

    def draw_path(self, states: Sequence[int] | Tensor) -> np.ndarray:
        """A picture [H, W, 3] of a whole trajectory over the map, early steps blue, late ones red."""
        from plaudit.tasks.gridworld_drawing import draw_path

        return draw_path(self, [int(s) for s in states])


def _rows(map: str) -> tuple[str, ...]:
    rows = tuple(line for line in (line.rstrip("\r") for line in map.strip("\n").split("\n")))
    if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
        raise BadInput("map", expected="rows of one length", received=[len(row) for row in rows],
                       fix="fill short rows with floor ('.') or wall ('#')")
    if not any("S" in row for row in rows):
        raise BadInput("map", expected="at least one start 'S'", received="none")
    return rows


def _features(map: Sequence[str], given: Sequence[Feature]) -> tuple[Feature, ...]:
    """The features of the letters that stand on the map: the given ones, in order, then defaults."""
    letters = sorted({letter for row in map for letter in row} - set("#S. "))
    own = [f.letter for f in given]
    if len(set(own)) < len(own):
        raise BadInput("features", expected="one for each letter", received=own)
    for f in given:
        if len(f.letter) != 1 or f.letter in "#S. _" or f.letter not in letters:
            raise BadInput("features", expected=f"a letter that stands on the map, one of {letters}", received=f.letter)
    unknown = [letter for letter in letters if letter not in own and letter not in DEFAULTS]
    if unknown:
        raise BadInput("map", expected=f"'#', '.', ' ', 'S', {', '.join(DEFAULTS)} or the letter of a feature",
                       received=unknown, fix="pass a feature for the letter")
    return (*given, *(DEFAULTS[letter] for letter in letters if letter not in own))
