"""Episodes from Minari data sets and back, without loss.

Minari keeps T + 1 observations for an episode of T steps; `obs` are the first T, `next_obs` the last T. It keeps
infos for T steps or, where it recorded them itself, for the reset too (T + 1; the first is left out).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.extras import require
from plaudit.core.tree import Tree, tree_map

Array: TypeAlias = NDArray[Any]
_ROWS = ("group", "agent", "member")
_log = logging.getLogger(__name__)


def from_minari(dataset: Any) -> Episodes:
    """All episodes of a Minari data set, in its order and its dtypes.

    Numeric infos that every episode has become `info` (nested names joined by "/"); others are left out, and logged.
    Rewards that are all NaN (written by `to_minari` where there were none) become None.

    Args:
        dataset: a `minari.MinariDataset`, or the id of one on this machine.

    Raises:
        BadInput: when there is no such data set, it is empty, or its arrays have other lengths than Minari's.
        Unsupported: when its observations hold text, or its actions are no single array.
        MissingExtra: when Minari is not installed.
    """
    minari = cast(Any, require("minari", extra="envs"))
    if isinstance(dataset, str):
        try:
            dataset = minari.load_dataset(dataset)
        except (FileNotFoundError, ValueError) as error:
            raise BadInput("dataset", expected="the id of a data set on this machine", received=dataset,
                           fix=f"run: minari download {dataset}") from error
    records: list[Any] = list(dataset.iterate_episodes())
    if not records:
        raise BadInput("dataset", expected="at least one episode", received="none")
    infos = [_flat_numbers(record.infos or {}, len(record)) for record in records]
    shared = [name for name in infos[0] if all(name in info for info in infos)]
    for name in sorted({name for info in infos for name in info} - set(shared)):
        _log.warning("info %r is left out: not every episode has it as numbers", name)
    rows = [_episode(record, {n: info[n] for n in shared}) for record, info in zip(records, infos, strict=True)]
    out = Episodes.cat(rows)
    if bool(torch.isnan(torch.cat([row.env_reward[0] for row in rows if row.env_reward is not None])).all()):
        out = out.replace(env_reward=None)
    metadata: list[Any] = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    indices = [cast("dict[str, Any]", m.get("options", {}).get("plaudit", {})) for m in metadata]
    known = [name for name in _ROWS if all(name in row for row in indices)]
    return out.replace(**{name: torch.tensor([int(row[name]) for row in indices]) for name in known})


def to_minari(episodes: Episodes, dataset_id: str, *, env: str | gymnasium.Env[Any, Any] | Any = None,
              observation_space: gymnasium.Space[Any] | None = None,
              action_space: gymnasium.Space[Any] | None = None, description: str | None = None) -> Any:
    """Writes episodes as a new Minari data set, without loss (images are not compressed).

    Where `env_reward` is None the rewards are NaN. `group`, `agent` and `member` are kept in the episodes' options.

    Args:
        episodes: at least one; every row begins with a step and has no holes.
        dataset_id: `namespace/name-v0`, in the folder that MINARI_DATASETS_PATH names (by default ~/.minari).
        env: the environment, its id or spec; with it, Minari can recover the environment.
        observation_space: None takes the environment's, or without one a Box or Discrete that holds the data.
        action_space: as `observation_space`.
        description: a sentence for the data set's card.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        BadInput: when the id is taken or malformed, `env` is something else, or `next_obs` of a step is not `obs` of
            the one after it.
        MissingExtra: when Minari is not installed.
    """
    minari = cast(Any, require("minari", extra="envs"))
    collector = cast(Any, require("minari.data_collector", extra="envs"))
    _check_env(env)
    folder = new_folder(dataset_id)
    buffers = [_buffer(row, number) for number, row in enumerate(episodes.to_list())]
    if not buffers:
        raise BadInput("episodes", expected="at least one row", received="none")
    if env is None:
        observation_space = observation_space or _space([b["observations"] for b in buffers])
        action_space = action_space or _space([b["actions"] for b in buffers])
    try:
        return minari.create_dataset_from_buffers(
            dataset_id, [collector.EpisodeBuffer(**b) for b in buffers], env=env, observation_space=observation_space,
            action_space=action_space, description=description, jpeg_encoding=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # nothing half-written; it did not exist before
        raise


def _check_env(env: object) -> None:
    from gymnasium import Env
    from gymnasium.envs.registration import EnvSpec

    if env is not None and not isinstance(env, str | Env | EnvSpec):
        is_class = isinstance(env, type)
        raise BadInput("env", expected="an environment, its id or its spec",
                       received=f"the class {env.__name__}" if is_class else type(env).__name__,
                       fix=f"pass {env.__name__}(...)" if is_class else "")


# --- reading -------------------------------------------------------------------------------------------


def _episode(record: Any, info: Mapping[str, Tensor]) -> Episodes:
    steps = len(record)
    observations = _tensors("observations", record.observations)
    actions: object = record.actions
    if not _is_numbers(actions):
        raise Unsupported(f"episode {record.id} has actions of kind {type(actions).__name__}; "
                          "an Episodes takes one array of actions: flatten the action space first")
    for name, leaf in _named_leaves("observations", observations):
        if len(leaf) != steps + 1:
            raise BadInput(f"episode {record.id}: {name}", expected=f"{steps + 1} entries for {steps} steps",
                           received=len(leaf))
    return Episodes.of_steps(
        obs=tree_map(lambda x: x[:-1], observations), next_obs=tree_map(lambda x: x[1:], observations),
        action=_tensor(actions), env_reward=_tensor(record.rewards),
        terminated=_tensor(record.terminations).bool(), truncated=_tensor(record.truncations).bool(), info=info)


def _tensors(name: str, value: Any) -> Tree:
    if _is_numbers(value):
        return _tensor(value)
    if isinstance(value, tuple):
        value = {str(i): part for i, part in enumerate(cast("tuple[Any, ...]", value))}
    if isinstance(value, Mapping):
        return {str(k): _tensors(f"{name}/{k}", v) for k, v in cast("Mapping[Any, Any]", value).items()}
    raise Unsupported(f"{name} are of kind {type(value).__name__}, not arrays of numbers")


def _flat_numbers(infos: Mapping[str, Any], steps: int, prefix: str = "") -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for key, value in infos.items():
        if isinstance(value, Mapping):
            out |= _flat_numbers(cast("Mapping[str, Any]", value), steps, f"{prefix}{key}/")
        elif _is_numbers(value) and value.ndim and len(value) in (steps, steps + 1):
            out[prefix + key] = _tensor(value)[-steps:]
    return out


def _is_numbers(value: Any) -> TypeGuard[Array]:
    return isinstance(value, np.ndarray) and cast("Array", value).dtype.kind in "biuf"


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array))  # pyright: ignore[reportUnknownMemberType]


def _named_leaves(name: str, tree: Tree) -> list[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        return [(name, tree)]
    return [leaf for key, value in tree.items() for leaf in _named_leaves(f"{name}/{key}", value)]


# --- writing -------------------------------------------------------------------------------------------


def new_folder(dataset_id: str) -> Path:
    """Where a new data set of this id will lie.

    Raises:
        BadInput: when the id is taken or malformed.
        MissingExtra: when Minari is not installed.
    """
    storage = cast(Any, require("minari.storage.datasets_root_dir", extra="envs"))
    naming = cast(Any, require("minari.dataset.minari_dataset", extra="envs"))
    try:
        naming.parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # without a version Minari fails on int(None)
        raise BadInput("dataset_id", expected="a name such as namespace/name-v0", received=dataset_id) from error
    folder = Path(storage.get_dataset_path(dataset_id))
    if folder.exists():
        raise BadInput("dataset_id", expected="a name that is not taken", received=dataset_id,
                       fix=f"raise its version, or run: minari delete {dataset_id}")
    return folder


def _buffer(row: Episodes, number: int) -> dict[str, Any]:
    if row.T == 0:
        raise BadInput(f"episodes[{number}]", expected="at least one step", received="none")
    options = {name: int(getattr(row, name)[0]) for name in _ROWS if getattr(row, name) is not None}
    rewards = row.env_reward if row.env_reward is not None else torch.full((1, row.T), torch.nan)
    return {
        "observations": _joined(row.obs, row.next_obs, f"episodes[{number}].next_obs"), "actions": _array(row.action),
        "rewards": _array(rewards), "terminations": _array(row.terminated), "truncations": _array(row.truncated),
        "infos": {name: _array(value) for name, value in row.info.items()},
        "options": {"plaudit": options} if options else None,
    }


def _joined(obs: Tree, next_obs: Tree, name: str) -> Any:
    if not isinstance(obs, Tensor):
        after = cast("Mapping[str, Tree]", next_obs)
        return {key: _joined(value, after[key], f"{name}/{key}") for key, value in obs.items()}
    first, second = _array(obs), _array(cast(Tensor, next_obs))
    if not np.array_equal(first[1:], second[:-1], equal_nan=first.dtype.kind == "f"):
        raise BadInput(name, expected="at each step the obs of the step after it, which is all that Minari can keep",
                       received="others", fix="save with Episodes.save")
    return np.concatenate([first, second[-1:]])


def _array(x: Tensor) -> Array:
    x = x[0].detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def _space(parts: Sequence[Any]) -> gymnasium.Space[Any]:
    """A space that holds all of the data."""
    if isinstance(parts[0], Mapping):
        keys = list(cast("Mapping[str, Any]", parts[0]))
        return gymnasium.spaces.Dict({key: _space([p[key] for p in parts]) for key in keys})
    first = cast("Array", parts[0])
    low, high = min(float(p.min()) for p in parts), max(float(p.max()) for p in parts)
    if first.ndim == 1 and first.dtype.kind in "iu":
        return gymnasium.spaces.Discrete(int(high - low) + 1, start=int(low), dtype=first.dtype.type)
    if first.dtype.kind == "f":
        low, high = -np.inf, np.inf
    return gymnasium.spaces.Box(low, high, first.shape[1:], cast(Any, first.dtype.type))
