"""A typed batch of episodes: B rows of at most T steps, with a mask.

A plain frozen dataclass, not tensordict's `tensorclass`. Measured (`python benchmarks/episodes_overhead.py`: one
core, B in {1, 64, 1024}, T in {1, 100}), a call of the tensorclass costs 2.9 to 3.6 times ours to construct (8 against
27 us, our checks included), 15 to 22 times to read a field, 0.8 to 1.5 times to join batches or gather rows, 0.9 to 1.1
times to replace a field; it is faster at slices of rows (0.75 to 1.0 times) and at `.to` (0.7 to 0.8), by under 10 us.
What decides is that importing tensordict takes 1.3 s, above the 0.5 s that `import plaudit` may cost beyond torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.tree import Tree, from_leaves, leaves, tree_map

_STEP_FIELDS = ("obs", "action", "next_obs", "terminated", "truncated", "mask", "env_reward", "info")
_ROW_FIELDS = ("group", "agent", "member")
_REQUIRED = {"obs", "action", "next_obs", "terminated", "truncated", "mask"}
_FORMAT = "plaudit.episodes.1"


@dataclass(frozen=True, eq=False, kw_only=True)
class Episodes:
    """B episodes of at most T steps. Flat transitions are the T = 1 case.

    `terminated` says that the world ended (nothing can be earned after it); `truncated` that we
    stopped looking. The reward of step t belongs to (obs[t], action[t], next_obs[t]), so
    `next_obs` at the last step of an episode is its true last observation.

    Raises:
        BadInput: when a field does not begin with the axes [B, T] of `terminated`.

    Example:
        >>> e = Episodes.of_steps(obs=torch.zeros(3, 2), action=torch.zeros(3), next_obs=torch.ones(3, 2))
        >>> (e.B, e.T, e.lengths.tolist())
        (1, 3, [3])
    """

    obs: Tree
    """[B, T, ...], or a dictionary of such."""
    action: Tensor
    """[B, T] integers, or [B, T, A] numbers in the environment's own units."""
    next_obs: Tree
    """[B, T, ...], the same form as `obs`."""
    terminated: Bool[Tensor, "B T"]
    truncated: Bool[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    """True where the step happened."""
    env_reward: Float[Tensor, "B T"] | None = None
    info: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Per-step tensors [B, T, ...] by name, such as `reward_ctrl` or `is_success`."""
    group: Int[Tensor, "B"] | None = None
    agent: Int[Tensor, "B"] | None = None
    member: Int[Tensor, "B"] | None = None

    def __post_init__(self) -> None:
        if self.terminated.ndim != 2:
            raise BadInput("episodes.terminated", expected="shape [B, T]", received=tuple(self.terminated.shape))
        axes = tuple(self.terminated.shape)
        for name, leaf in self._step_leaves():
            if tuple(leaf.shape[:2]) != axes:
                raise BadInput(f"episodes.{name}", expected=f"shape [B, T, ...] with [B, T] = {list(axes)}",
                               received=list(leaf.shape), fix="give every field the axes of `terminated`")
        forms = [{path: leaf.shape for path, leaf in leaves(tree)} for tree in (self.obs, self.next_obs)]
        if forms[0] != forms[1]:
            raise BadInput("episodes.next_obs", expected=f"the form of obs, {_shown(forms[0])}",
                           received=_shown(forms[1]))
        if self.env_reward is not None and self.env_reward.ndim != 2:
            raise BadInput("episodes.env_reward", expected="shape [B, T]", received=list(self.env_reward.shape))
        for name in ("terminated", "truncated", "mask"):
            if getattr(self, name).dtype != torch.bool:
                raise BadInput(f"episodes.{name}", expected="dtype torch.bool", received=getattr(self, name).dtype,
                               fix=f"pass {name}.bool()")
        for name in _ROW_FIELDS:
            index = getattr(self, name)
            if index is not None and tuple(index.shape) != axes[:1]:
                raise BadInput(f"episodes.{name}", expected=f"shape [B] = [{axes[0]}]", received=list(index.shape))

    # --- sizes ---------------------------------------------------------------------------------

    @property
    def B(self) -> int:
        """The number of rows."""
        return self.terminated.shape[0]

    @property
    def T(self) -> int:
        """The number of steps of the longest row, padding included."""
        return self.terminated.shape[1]

    def __len__(self) -> int:
        return self.B

    @property
    def device(self) -> torch.device:
        return self.terminated.device

    @property
    def lengths(self) -> Int[Tensor, "B"]:
        """The number of steps that happened in each row."""
        return self.mask.sum(-1)

    @property
    def last(self) -> Int[Tensor, "B"]:
        """The index of the last step that happened in each row (0 where none did)."""
        steps = torch.arange(self.T, device=self.device)
        return torch.where(self.mask, steps, 0).amax(-1) if self.T else torch.zeros_like(self.lengths)

    def __repr__(self) -> str:
        parts = [f"{name}{list(leaf.shape[2:])}" for name, leaf in self._step_leaves() if name not in ("mask",)]
        steps = "unknown" if self.device.type == "meta" else int(self.mask.sum())
        return f"Episodes(B={self.B}, T={self.T}, steps={steps}, {', '.join(parts)})"

    # --- selecting and joining -----------------------------------------------------------------

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Episodes:
        """The chosen rows, as a batch (an integer gives a batch of one)."""
        if isinstance(rows, int):
            if not -self.B <= rows < self.B:
                raise IndexError(f"row {rows} of a batch of {self.B}")
            rows = slice(rows, rows + 1 or None)
        elif not isinstance(rows, slice):
            rows = torch.as_tensor(rows, device=self.device)
            rows = rows.long() if rows.numel() == 0 and rows.dtype != torch.bool else rows
            rows = rows.unsqueeze(0) if rows.ndim == 0 else rows
        return replace(self, **self._changes(lambda x: x[rows], _STEP_FIELDS), **self._rows_at(rows))

    def steps(self, start: int | None = None, stop: int | None = None) -> Episodes:
        """The steps `start:stop` of every row."""
        return self._map(lambda x: x[:, start:stop])

    def transitions(self) -> Episodes:
        """All steps that happened, as N rows of one step: [N, 1], rows first, then time."""
        row, step = self.mask.nonzero(as_tuple=True)
        steps = {n: tree_map(lambda x: x[row, step].unsqueeze(1), getattr(self, n))
                 for n in _STEP_FIELDS if getattr(self, n) is not None}
        return replace(self, **steps, **self._rows_at(row))

    def pad(self, T: int) -> Episodes:
        """The same episodes with masked steps (zeros) appended up to T.

        Raises:
            BadInput: when T is smaller than the present one.
        """
        if self.T > T:
            raise BadInput("T", expected=f"at least the present length {self.T}", received=T)
        if self.T == T:
            return self
        return self._map(lambda x: torch.cat([x, x.new_zeros((x.shape[0], T - x.shape[1], *x.shape[2:]))], 1))

    @staticmethod
    def cat(batches: Sequence[Episodes]) -> Episodes:
        """All rows of several batches, padded to the longest.

        Raises:
            BadInput: when the list is empty, or the batches have different fields.
        """
        if not batches:
            raise BadInput("batches", expected="at least one Episodes", received="an empty list")
        T = max(b.T for b in batches)
        padded = [b.pad(T) for b in batches]
        first, *others = (dict(b.tensors()) for b in padded)
        forms = {name: list(leaf.shape[2:]) for name, leaf in first.items()}
        for other in others:
            if {name: list(leaf.shape[2:]) for name, leaf in other.items()} != forms:
                raise BadInput("batches", expected=f"the same fields of the same shapes in each: {forms}",
                               received={name: list(leaf.shape[2:]) for name, leaf in other.items()})
        joined = Episodes.of_tensors({name: torch.cat([first[name], *(o[name] for o in others)]) for name in forms})
        return batches[0]._joined(joined, batches)

    def to_list(self) -> list[Episodes]:
        """One batch of one row for each episode, padding removed; `Episodes.cat` is the inverse."""
        if not bool((self.mask.cumprod(-1).bool() == self.mask).all()):
            raise BadInput("episodes.mask", expected="True first, then False", received="a mask with holes")
        return [self[b].steps(0, int(n)) for b, n in enumerate(self.lengths)]

    # --- moving and replacing ------------------------------------------------------------------

    def to(self, device: str | torch.device) -> Episodes:
        return self._map(lambda x: x.to(device), rows_too=True)

    def replace(self, **changes: Any) -> Episodes:
        """The same episodes with some fields exchanged."""
        return replace(self, **changes)

    # --- making, saving ------------------------------------------------------------------------

    @staticmethod
    def of_steps(*, obs: Any, action: Any, next_obs: Any, terminated: Any = None, truncated: Any = None,
                 env_reward: Any = None, info: Mapping[str, Any] | None = None) -> Episodes:
        """One episode from tensors or NumPy arrays [T, ...] without the batch axis; arrays keep their dtype."""
        action = _tensors(action)
        T = action.shape[0]
        no = torch.zeros(T, dtype=torch.bool, device=action.device)

        def up(x: Any) -> Any:
            return tree_map(lambda leaf: leaf.unsqueeze(0), _tensors(x))

        return Episodes(
            obs=up(obs), action=up(action), next_obs=up(next_obs),
            terminated=up(no if terminated is None else terminated),
            truncated=up(no if truncated is None else truncated),
            mask=up(~no), env_reward=None if env_reward is None else up(env_reward),
            info={k: up(v) for k, v in (info or {}).items()},
        )

    @staticmethod
    def of_transitions(**fields_N: Any) -> Episodes:
        """N transitions from tensors [N, ...]: every row is one step of its own."""
        one = Episodes.of_steps(**fields_N)
        return one._map(lambda x: x.transpose(0, 1))

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file, atomically."""
        from plaudit.core.checkpoint import write_tensors

        write_tensors(Path(path), dict(self.tensors()), {"format": _FORMAT})

    @staticmethod
    def load(path: str | Path) -> Episodes:
        """Reads what `save` wrote.

        Raises:
            BadInput: when the file is missing or is no file of episodes.
        """
        from plaudit.core.checkpoint import read_tensors

        tensors, meta = read_tensors(Path(path))
        if meta.get("format") != _FORMAT:
            raise BadInput("path", expected="a file that Episodes.save wrote", received=str(path))
        return Episodes.of_tensors(tensors)

    # --- numbers over episodes -----------------------------------------------------------------

    def returns(self, reward_BT: Float[Tensor, "B T"], *, discount: float = 1.0) -> Float[Tensor, "B"]:
        """The discounted sum of a reward over the steps that happened.

        Raises:
            BadInput: when the reward has another shape than [B, T], or the discount is not in [0, 1].
        """
        if reward_BT.shape != self.mask.shape:
            raise BadInput("reward_BT", expected=f"shape [B, T] = {[self.B, self.T]}", received=list(reward_BT.shape))
        if not 0 <= discount <= 1:
            raise BadInput("discount", expected="a number in [0, 1]", received=discount)
        power = self.mask.cumsum(-1) - 1
        return torch.where(self.mask, reward_BT * discount**power, 0.0).sum(-1)

    # --- internals -----------------------------------------------------------------------------

    def _step_leaves(self) -> Iterable[tuple[str, Tensor]]:
        for name in _STEP_FIELDS:
            value = getattr(self, name)
            if value is not None:
                yield from leaves(value, name)

    def tensors(self) -> Iterable[tuple[str, Tensor]]:
        """All tensors by the path of their field, such as `obs/camera` or `info/is_success`."""
        yield from self._step_leaves()
        for name in _ROW_FIELDS:
            if getattr(self, name) is not None:
                yield name, getattr(self, name)

    def _map(self, fn: Callable[[Tensor], Tensor], *, rows_too: bool = False) -> Episodes:
        names = (*_STEP_FIELDS, *self._row_tensors) if rows_too else _STEP_FIELDS
        return replace(self, **self._changes(fn, names))

    def _changes(self, fn: Callable[[Tensor], Tensor], names: Sequence[str]) -> dict[str, Any]:
        return {n: tree_map(fn, getattr(self, n)) for n in names if getattr(self, n) is not None}

    @property
    def _row_tensors(self) -> tuple[str, ...]:
        """The fields that have an entry for each row, as tensors."""
        return _ROW_FIELDS

    def _rows_at(self, index: slice | Tensor) -> dict[str, Any]:
        """What belongs to rows, at some of them."""
        return self._changes(lambda x: x[index], self._row_tensors)

    def _joined(self, joined: Episodes, batches: Sequence[Episodes]) -> Episodes:
        """Gives `cat` what a kind of episodes has beside the fields of this class."""
        return joined

    @staticmethod
    def of_tensors(flat: Mapping[str, Tensor]) -> Episodes:
        """The inverse of `tensors`.

        Raises:
            BadInput: when a required field is missing, or one is no field of Episodes.
        """
        grouped: dict[str, dict[str, Tensor]] = {}
        for path, leaf in flat.items():
            head, _, rest = path.partition("/")
            grouped.setdefault(head, {})[rest] = leaf
        missing, foreign = _REQUIRED - set(grouped), set(grouped) - {*_STEP_FIELDS, *_ROW_FIELDS}
        if missing or foreign:
            raise BadInput("tensors", expected=f"the fields {', '.join(sorted(_REQUIRED))}, and others of Episodes",
                           received=f"missing {sorted(missing)}, foreign {sorted(foreign)}")
        return Episodes(**{name: from_leaves(pairs) for name, pairs in grouped.items()})  # type: ignore[arg-type]


def _shown(form: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{path} {list(shape)}".strip() for path, shape in form.items())


def _tensors(tree: Any) -> Any:
    """Arrays and lists of numbers as tensors; what are tensors stays."""
    if isinstance(tree, Mapping):
        return {str(key): _tensors(value) for key, value in cast(Mapping[Any, Any], tree).items()}
    return tree if isinstance(tree, Tensor) else torch.tensor(tree)
