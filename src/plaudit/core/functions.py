"""A plain function as a Reward: `plaudit.reward(fn)`, and the environment's own reward as one."""

from __future__ import annotations

import difflib
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast, get_args, overload

import torch
from torch import Tensor

from plaudit.core.border import Answer, Backend, as_rows, read_answer
from plaudit.core.episodes import Episodes
from plaudit.core.errors import RAISED, BadInput, PlauditError
from plaudit.core.limits import TimedOut, call_within
from plaudit.core.misspelt import refuse_misspelt
from plaudit.core.needs import Across, Needs, State, Time
from plaudit.core.probing import Mode, find_mode
from plaudit.core.reward import UNBOUNDED, Carry, Range, Reward, describe_failure
from plaudit.core.score import Score
from plaudit.core.tree import tree_map

log = logging.getLogger(__name__)
PATIENCE = 3
"""A function that was late so often is not asked again."""
MOST_FAILURES = 64
"""So many failing calls are looked into to find the transitions that fail; then a whole part is unknown."""
NAMED_FIELDS = ("obs", "action", "next_obs", "terminated", "truncated", "env_reward", "info")
_ALIASES = {"observation": "obs", "state": "obs", "s": "obs", "a": "action", "act": "action", "actions": "action",
            "next_observation": "next_obs", "next_state": "next_obs", "s2": "next_obs", "done": "terminated",
            "term": "terminated", "reward": "env_reward"}


class FunctionReward(Reward):
    """A function of named fields as a Reward; made by `plaudit.reward`."""

    def __init__(self, fn: Callable[..., Any], *, name: str, needs: Needs, range: Range, weights: Mapping[str, float],
                 mode: Mode | None, time_limit_s: float | None) -> None:
        self.fn, self.name, self.needs, self.range = fn, name, needs, range
        self.weights, self.time_limit_s = dict(weights), time_limit_s
        self.arguments = _arguments(fn)
        self.mode: Mode | None = mode
        """How the function is called; None until the first batch has been probed."""
        self.probed_on = math.inf if mode else 0.0
        """On how many transitions the mode was found; infinity where it was declared."""
        self._late = 0

    @property
    def how(self) -> str:
        """One line: how the function is called, and how to make it faster."""
        if self.needs.time != "step":
            return f"{self.name}: called once an episode with tensors [T, ...]"
        return f"{self.name}: {'not probed yet' if self.mode is None else self.mode.text}"

    def evaluate(self, episodes: Episodes) -> Score:
        if self._late >= PATIENCE:
            raise TimedOut(f"{self.name} did not answer within {self.time_limit_s:g} s, {PATIENCE} times; it is not "
                           "asked any more")
        try:
            return call_within(self.time_limit_s, lambda: self._evaluate(episodes), what=self.name)
        except TimedOut:
            self._late += 1
            raise

    def _evaluate(self, episodes: Episodes) -> Score:
        if self.needs.across != "row":
            answer = self._answer(self.inputs(episodes), Mode("torch", True), shape=tuple(episodes.mask.shape))
            return self._score(episodes, answer.value, answer.terms, answer.why)
        if self.needs.time == "step":
            return self._by_transition(episodes)
        return self._by_episode(episodes)

    # --- one call for all transitions, or one for each ---------------------------------------------------

    def _by_transition(self, episodes: Episodes) -> Score:
        where = episodes.mask
        inputs = {k: tree_map(lambda x: x[where], v) for k, v in self.inputs(episodes).items()}
        N = int(where.sum())
        if N == 0:
            return self._score(episodes, torch.zeros_like(where, dtype=torch.float32), {}, {})
        answer = self._tolerant(inputs, self._mode_for(inputs, N), N, [MOST_FAILURES])

        def spread(x: Tensor) -> Tensor:
            out = x.new_zeros(where.shape)
            out[where] = x
            return out

        return self._score(episodes, spread(answer.value), {n: spread(t) for n, t in answer.terms.items()},
                           {r: spread(m) for r, m in answer.why.items()})

    def _mode_for(self, inputs: Mapping[str, Any], N: int) -> Mode:
        if self.mode is None or self.probed_on < min(N, 4):
            self.mode, self.probed_on = self._probe(inputs, N), N
            log.info(self.how)
        return self.mode

    def _probe(self, inputs: Mapping[str, Any], N: int) -> Mode:
        """Tries other transitions too: a function may fail on some only."""
        errors: list[BadInput] = []
        for start, stop in ((0, N), (0, N // 2), (N // 2, N), (N // 8, N // 4)):
            if start < stop:
                try:
                    return find_mode(self.fn, _cut(inputs, start, stop), stop - start)
                except BadInput as error:
                    errors.append(error)
        raise errors[0]

    def _tolerant(self, inputs: Mapping[str, Any], mode: Mode, N: int, left: list[int]) -> Answer:
        """The answer, unknown only where the function fails.

        A call that fails is repeated on halves, as long as there are failures `left` to look into.
        """
        try:
            return self._answer(inputs, mode, shape=(N,))
        except RAISED as error:  # the border: whatever it raises becomes an unknown with its reason
            left[0] -= 1
            if N == 1 or left[0] <= 0:
                return _lost(N, _failure(self.name, error, mode.backend), device=_device_of(inputs))
        half = N // 2
        return Answer.join([self._tolerant(_cut(inputs, a, b), mode, b - a, left) for a, b in ((0, half), (half, N))])

    def _answer(self, inputs: Mapping[str, Any], mode: Mode, *, shape: tuple[int, ...]) -> Answer:
        if mode.vectorised:
            return read_answer(self.fn(**as_rows(inputs, mode.backend)), shape, like=_device_of(inputs))
        rows = [read_answer(self.fn(**as_rows(inputs, mode.backend, row=i)), (), like=_device_of(inputs))
                for i in range(shape[0])]
        return Answer.stack(rows)

    # --- one call for each episode ---------------------------------------------------------------------------

    def _by_episode(self, episodes: Episodes) -> Score:
        backend = self.mode.backend if self.mode else "torch"
        inputs, shape = self.inputs(episodes), (episodes.B, episodes.T)
        value = torch.zeros(shape, device=episodes.device)
        terms: dict[str, Tensor] = {}
        why: dict[str, Tensor] = {}
        for b in range(episodes.B):
            steps = episodes.mask[b]
            if not bool(steps.any()):
                continue
            row = {k: tree_map(lambda x, b=b, steps=steps: x[b][steps], v) for k, v in inputs.items()}
            try:
                answer = read_answer(self.fn(**as_rows(row, backend)), (int(steps.sum()),), like=episodes.device,
                                     last=self.needs.time == "episode")
            except RAISED as error:  # the border: only this episode is unknown
                answer = _lost(int(steps.sum()), _failure(self.name, error, backend), device=episodes.device)
            value[b, steps] = answer.value.to(value.dtype)
            for name, term in answer.terms.items():
                terms.setdefault(name, torch.zeros_like(value))[b, steps] = term.to(value.dtype)
            for reason, mask in answer.why.items():
                why.setdefault(reason, torch.zeros(shape, dtype=torch.bool, device=episodes.device))[b, steps] = mask
        return self._score(episodes, value, terms, why)

    def start(self, rows: int) -> Carry:
        super().start(rows)
        return [None] * rows if self.needs.time == "prefix" else None

    def stream(self, step: Episodes, carry: Carry) -> tuple[Score, Carry]:
        """A prefix function is called on the whole past of a row at each step."""
        if self.needs.time != "prefix":
            return self.score(step), carry
        pasts = [_append(past, step[b]) for b, past in enumerate(carry)]
        scores = [self.score(past) for past in pasts]

        def join(parts: Sequence[Tensor]) -> Tensor:
            return torch.cat([p[:, -1:] for p in parts])

        reasons = {r for s in scores for r in s.why}
        none = torch.zeros((1, 1), dtype=torch.bool, device=step.device)
        return Score.of(join([s.value for s in scores]), mask=step.mask, weights=self.weights,
                        terms={n: join([s.terms[n] for s in scores]) for n in scores[0].terms
                               if all(n in s.terms for s in scores)},
                        why={r: join([s.why.get(r, none) for s in scores]) for r in reasons}), pasts

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        if self.needs.time != "prefix":
            return carry
        return [None if fresh else past for past, fresh in zip(carry, rows, strict=True)]

    # --- shared ---------------------------------------------------------------------------------------------------

    def inputs(self, episodes: Episodes) -> dict[str, Any]:
        """The fields that the function takes, still on the axes [B, T]."""
        return {name: getattr(episodes, name) for name in self.arguments}

    def _score(self, episodes: Episodes, value: Tensor, terms: Mapping[str, Tensor],
               why: Mapping[str, Tensor]) -> Score:
        reasons = dict(why)
        if terms and self.weights:
            strange = set(terms) ^ set(self.weights)
            if strange:
                raise BadInput(f"{self.name}.terms", expected=f"the declared terms {sorted(self.weights)}",
                               received=sorted(terms))
            value = sum((self.weights[n] * t for n, t in terms.items() if self.weights[n] != 0),
                        torch.zeros_like(value))
        low, high = self.range
        slack = 1e-6 * max(1.0, *(abs(x) for x in self.range if math.isfinite(x)), 1.0)
        outside = torch.isfinite(value) & ((value < low - slack) | (value > high + slack)) & episodes.mask
        if bool(outside.any()):
            reasons[f"{self.name} left its declared range [{low:g}, {high:g}]"] = outside
            value = torch.where(outside, torch.nan, value)
        return Score.of(value, mask=episodes.mask, terms=terms, weights=self.weights, why=reasons,
                        reason=f"{self.name} returned NaN or infinity")


@overload
def reward(fn: Callable[..., Any], /) -> FunctionReward: ...
@overload
def reward(fn: Callable[..., Any], /, *, name: str = ..., range: Range = ..., terms: Iterable[str] | Mapping[str, float]
           = ..., time: Time = ..., across: Across = ..., state: State = ..., vectorised: bool | None = ...,
           backend: Backend = ..., time_limit_s: float | None = ...) -> FunctionReward: ...
@overload
def reward(fn: None = None, /, *, name: str = ..., range: Range = ..., terms: Iterable[str] | Mapping[str, float]
           = ..., time: Time = ..., across: Across = ..., state: State = ..., vectorised: bool | None = ...,
           backend: Backend = ..., time_limit_s: float | None = ...) -> Callable[[Callable[..., Any]],
                                                                                 FunctionReward]: ...


def reward(fn: Callable[..., Any] | None = None, /, *, name: str = "", range: Range = UNBOUNDED,
           terms: Iterable[str] | Mapping[str, float] = (), time: Time = "step", across: Across = "row",
           state: State = "none", vectorised: bool | None = None, backend: Backend = "auto",
           time_limit_s: float | None = None, **misspelt: Any) -> Any:
    """Makes a Reward of a plain function; works as a decorator, with or without arguments.

    The function takes any of the named fields `obs, action, next_obs, terminated, truncated,
    env_reward, info` and returns one number for each transition, or a dictionary of named terms
    (their weighted sum is the reward), or `(value, terms)`. It may be written for a whole batch
    (`obs[..., 0]`, fields `[N, ...]`) or for one transition; which one is found by probing with a
    batch size N that differs from the sizes of the fields and comparing with row by row calls, and
    `reward.how` says it. `None` and NaN mean "unknown", never zero.

    Args:
        fn: The function.
        name: How it is called in logs (the function's own name).
        range: The smallest and largest value of a step; a value outside is unknown.
        terms: Names of the terms of a dictionary result, or their weights (1 each).
        time: `step` for functions of one transition; `prefix` or `episode` for functions that are
            called with a whole episode (fields `[T, ...]`) and return `[T]` numbers, or one number
            for the episode (given to its last step).
        across: `row`; or `batch` for a function of the tensors `[B, T, ...]`.
        state: `remembers` or `learns` for a function with a memory (it is then not probed).
        vectorised: Skips the probing: whether one call takes all transitions.
        backend: Whether the function gets `torch` tensors or `numpy` arrays (`auto` finds out; NumPy where the
            probing is skipped).
        time_limit_s: Wall-clock limit of a call; what is late is unknown.
        misspelt: None: other options are refused, with the nearest of these.

    Raises:
        BadInput: when the function asks for an argument that is no field, or an option is wrong.

    Example:
        >>> @reward(range=(-1, 1))
        ... def upright(next_obs):
        ...     return next_obs[..., 0].clip(-1, 1)
        >>> e = Episodes.of_steps(obs=torch.zeros(5, 3), action=torch.zeros(5), next_obs=torch.ones(5, 3))
        >>> upright(e).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    if misspelt:
        refuse_misspelt("reward", misspelt, ("name", "range", "terms", "time", "across", "state", "vectorised",
                                             "backend", "time_limit_s"))
    if fn is None:
        return partial(reward, name=name, range=range, terms=terms, time=time, across=across, state=state,
                       vectorised=vectorised, backend=backend, time_limit_s=time_limit_s)
    if isinstance(fn, Reward):
        raise BadInput("fn", expected="a function", received=type(fn).__name__, fix="it is a reward as it is")
    if not callable(fn):
        raise BadInput("fn", expected="a function", received=type(fn).__name__)
    range = _range(range)
    if backend not in get_args(Backend):
        raise BadInput("backend", expected=f"one of {', '.join(get_args(Backend))}", received=backend)
    if isinstance(terms, str) or not isinstance(terms, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadInput("terms", expected="names, or a dictionary of their weights", received=terms)
    if across == "group":
        raise BadInput("across", expected="row or batch for a plain function", received=across)
    mode = None
    if vectorised is not None or state != "none":
        mode = Mode("numpy" if backend == "auto" else backend, bool(vectorised))
    elif backend != "auto" and time != "step":
        mode = Mode(backend, False)
    title = name or getattr(fn, "__name__", type(fn).__name__)
    needs = Needs(time=time, across=across, state=state, fields=frozenset(_arguments(fn)))
    weights = dict(cast("Mapping[str, float]", terms)) if isinstance(terms, Mapping) else dict.fromkeys(terms, 1.0)
    return FunctionReward(fn, name="reward" if title == "<lambda>" else title, needs=needs, range=range,
                          weights=weights, mode=mode, time_limit_s=time_limit_s)


class EnvReward(Reward):
    """The environment's own reward, with the terms that it reports as `info["reward_*"]` (as MuJoCo v5 does)."""

    def __init__(self, *, name: str = "env_reward") -> None:
        self.name = name
        self.needs = Needs(fields=frozenset({"env_reward"}))

    def evaluate(self, episodes: Episodes) -> Score:
        assert episodes.env_reward is not None  # `score` has checked the needs
        terms = {key.removeprefix("reward_"): value for key, value in episodes.info.items()
                 if key.startswith("reward_") and value.shape == episodes.mask.shape}
        return Score.of(episodes.env_reward, mask=episodes.mask, terms=terms, weights=dict.fromkeys(terms, 1.0),
                        reason="the environment returned NaN or infinity")


def _arguments(fn: Callable[..., Any]) -> tuple[str, ...]:
    """The fields that a function takes, by the names of its parameters."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError) as error:
        raise PlauditError(f"the signature of {fn!r} cannot be read ({error}); wrap it in a def") from error
    names: list[str] = []
    for p in parameters:
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or (p.default is not p.empty and p.name not in NAMED_FIELDS):
            continue
        if p.name not in NAMED_FIELDS or p.kind is p.POSITIONAL_ONLY:
            near = _ALIASES.get(p.name) or next(iter(difflib.get_close_matches(p.name, NAMED_FIELDS, 1)), "obs")
            raise BadInput(f"argument {p.name!r} of {getattr(fn, '__name__', fn)}",
                           expected=f"a keyword out of {', '.join(NAMED_FIELDS)}", received=p.name,
                           fix=f"rename it to {near!r}, or give it a default")
        names.append(p.name)
    return tuple(names)


def _range(given: Any) -> Range:
    try:
        low, high = (float(x) for x in given)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise BadInput("range", expected="(smallest, largest)", received=given)
    return low, high


def _lost(N: int, reason: str, *, device: torch.device) -> Answer:
    """Unknown for all, with one reason."""
    value = torch.full((N,), torch.nan, device=device)
    return Answer(value, {}, {reason: torch.ones_like(value, dtype=torch.bool)})


def _failure(name: str, error: BaseException, backend: Backend) -> str:
    """One line for a log; a function of tensors that received arrays is told how to get tensors."""
    said = describe_failure(name, error)
    if backend == "numpy" and isinstance(error, AttributeError | TypeError) and "numpy.ndarray" in said:
        said += '; it received NumPy arrays: pass backend="torch" for tensors'
    return said


def _cut(inputs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: tree_map(lambda x: x[start:stop], value) for name, value in inputs.items()}


def _device_of(inputs: Mapping[str, Any]) -> torch.device:
    for value in inputs.values():
        if isinstance(value, Tensor):
            return value.device
        if isinstance(value, Mapping) and value:
            return _device_of(cast(Mapping[str, Any], value))
    return torch.device("cpu")


def _append(past: Episodes | None, step: Episodes) -> Episodes:
    if past is None:
        return step
    pairs = dict(step.tensors())
    return Episodes.of_tensors({n: torch.cat([x, pairs[n]], 1) if x.ndim > 1 else x for n, x in past.tensors()})
