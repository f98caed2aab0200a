"""A reward in a folder: how it is composed as JSON, what it has learnt as tensors, functions by name and hash.

`reward.json` is a tree: each node of the algebra says its kind, its options and its parts, a function where it is
defined and the hash of that file. Reading it runs no code but the named functions, and those only with consent
(`plaudit.core.consent`). State (schedules, controllers, what is learnt) lies beside it in one safetensors
file, named after its content, so that a kill at any moment leaves the old reward or the new one.

A Reward of your own takes part by two methods: `spec()` gives JSON, and the classmethod `from_spec(spec)` makes the
reward from it (`from_spec(spec, parts)` for a Node of the algebra; one that loads code takes `trust=`, too);
`state_dict` and `load_state_dict` carry what it has learnt.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from plaudit.core import algebra
from plaudit.core.algebra import Node, Sum
from plaudit.core.checkpoint import load_state, save_state, write_text
from plaudit.core.consent import load_with_consent
from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.functions import EnvReward, FunctionReward
from plaudit.core.naming import source_of
from plaudit.core.needs import Needs
from plaudit.core.probing import Mode
from plaudit.core.reward import Range, Reward
from plaudit.core.schedules import LagrangeMultiplier, weight_from_spec, weight_spec
from plaudit.core.targets import file_hash

FORMAT = "plaudit.reward.1"
FILE = "reward.json"
Spec = dict[str, Any]


def save_reward(reward: Reward, folder: str | Path) -> Path:
    """Writes a reward into a folder of its own; an older reward there is replaced at once.

    Args:
        reward: Any composition of named functions, constants, `EnvReward`, and Rewards with `spec` and `from_spec`.
        folder: New, empty, or written by `save_reward`.

    Returns:
        The file `reward.json`, which names everything else.

    Raises:
        Unsupported: when a part cannot be written down (a lambda, a closure, ...), with what to do.
        BadInput: when the folder holds other things.
        PlauditError: when the file system refuses; the reward that was there is intact.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> file = save_reward(algebra.Constant(2.0).clip(max=1.0) * 3, folder)
        >>> load_reward(folder).range
        (3.0, 3.0)
    """
    folder = Path(folder)
    _check_folder(folder)
    spec = reward_spec(reward)
    state = reward.state_dict()
    content: Spec = {"format": FORMAT, "reward": spec, "state": _write_state(state, folder) if state else None}
    write_text(folder / FILE, json.dumps(content, indent=1, allow_nan=False))
    for old in folder.glob("state-*.safetensors"):
        if content["state"] is None or old.name != content["state"]["file"]:
            old.unlink(missing_ok=True)
    return folder / FILE


def load_reward(path: str | Path, *, trust: bool = False, device: str | None = None) -> Reward:
    """Reads what `save_reward` wrote.

    Args:
        path: The folder, or the `reward.json` in it.
        trust: Whether functions may be loaded from files that have changed or lie elsewhere, or from modules.
        device: Where its networks compute; None is where a checkpoint of texts was loaded to, else the CPU.

    Raises:
        BadInput: when the files are missing or damaged, code would have to run without consent, or there is no such
            device here.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    content = _read(file)
    reward = reward_from_spec(content.get("reward"), trust=trust, device=device)
    where = content.get("state")
    if where is not None:
        state = _state_path(file, where)
        if file_hash(state) != where["sha256"]:
            raise BadInput("state", expected="the state that was saved", received=f"{state}, which has changed")
        reward.load_state_dict(load_state(state))
    return reward


def is_saved_reward(path: str | Path) -> bool:
    """Whether a path is a folder that `save_reward` wrote, or the `reward.json` in it."""
    path = Path(path)
    return path.is_file() if path.name == FILE else path.is_dir() and (path / FILE).is_file()


def reward_spec(reward: Reward) -> Spec:
    """JSON from which `reward_from_spec` makes the reward as it was in the beginning (without its state).

    Raises:
        Unsupported: when a part cannot be written down.
    """
    kind = _KINDS.get(type(reward))
    spec: Spec = {"kind": kind.name, **kind.options(reward)} if kind else _of_class(reward)
    spec |= {"name": reward.name} | ({"role": reward.role} if reward.role != "train" else {})
    if isinstance(reward, Node):
        spec["parts"] = [reward_spec(part) for part in reward.parts]
    return spec


def reward_from_spec(spec: Any, *, trust: bool = False, device: str | None = None) -> Reward:
    """The reward of a spec; `trust` and `device` are those of `load_reward`.

    Raises:
        BadInput: when it is no spec, or code would have to run without consent.
    """
    return _made(spec, _How(trust, None if device is None else check_device(device)))


def _made(spec: Any, how: _How) -> Reward:
    if not isinstance(spec, Mapping):
        raise BadInput("reward.json", expected="a reward", received=type(spec).__name__)
    known = cast("Mapping[str, Any]", spec)
    kind = _BY_NAME.get(str(known.get("kind")))
    if kind is None:
        raise BadInput("reward.json", expected=f"a kind out of {', '.join(_BY_NAME)}", received=known.get("kind"))
    parts = [_made(part, how) for part in known.get("parts", ())]
    try:
        reward = kind.make(known, parts, how)
        if reward.name != known["name"]:
            reward = reward.named(str(known["name"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, PlauditError):
            raise
        raise BadInput("reward.json", expected=f"the options of {kind.name}",
                       received=f"{type(error).__name__}: {error}") from error
    return reward.with_role(known["role"]) if "role" in known else reward


# --- the kinds of rewards ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _How:
    """What the reader of a file says beside it."""

    trust: bool
    device: str | None


@dataclass(frozen=True)
class _Kind:
    """How one class is written and read."""

    name: str
    options: Callable[[Any], Spec]
    make: Callable[[Mapping[str, Any], list[Reward], _How], Reward]


def _limits(range: Range) -> list[float | None]:
    """JSON has no infinity: None is no limit."""
    return [x if math.isfinite(x) else None for x in range]


def _unlimited(limits: Sequence[float | None]) -> Range:
    low, high = limits
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _clip(spec: Mapping[str, Any], parts: list[Reward], how: _How) -> Reward:
    low, high = _unlimited(spec["limits"])
    return algebra.Clip(parts[0], min=low, max=high)


def _constrained(spec: Mapping[str, Any], parts: list[Reward], how: _How) -> Reward:
    multiplier = weight_from_spec(spec["multiplier"])
    if not isinstance(multiplier, LagrangeMultiplier):
        raise BadInput("reward.json", expected="a LagrangeMultiplier", received=spec["multiplier"])
    return algebra.Constrained(*parts, limit=spec["limit"], multiplier=multiplier)


def _function_options(reward: FunctionReward) -> Spec:
    if reward.needs.state != "none":
        raise Unsupported(f"{reward.name} {reward.needs.state}, and a file cannot hold the memory of a function; make "
                          "it a Reward with state_dict, load_state_dict, spec and from_spec")
    fn, keywords = reward.fn, dict[str, Any]()
    if isinstance(fn, functools.partial) and not fn.args:
        fn, keywords = fn.func, dict(fn.keywords)
        _must_be_json(keywords, reward.name)
    mode, probed = reward.mode, reward.probed_on
    return {
        **source_of(fn, what=reward.name), "keywords": keywords, "range": _limits(reward.range),
        "terms": reward.weights, "time": reward.needs.time, "across": reward.needs.across,
        "time_limit_s": reward.time_limit_s,
        "mode": None if mode is None else {"backend": mode.backend, "vectorised": mode.vectorised, "note": mode.note,
                                           "probed_on": None if math.isinf(probed) else probed}}


def _function(spec: Mapping[str, Any], parts: list[Reward], how: _How) -> Reward:
    thing = load_with_consent(spec, trust=how.trust, what="saved reward").thing
    fn = thing.fn if isinstance(thing, FunctionReward) else thing
    if not callable(fn) or isinstance(fn, type | Reward):
        raise BadInput("saved reward", expected="a function", received=f"{spec['target']}, a {type(fn).__name__}")
    if spec["keywords"]:
        fn = functools.partial(fn, **spec["keywords"])
    out = FunctionReward(fn, name=spec["name"], needs=Needs(time=spec["time"], across=spec["across"]),
                         range=_unlimited(spec["range"]), weights=spec["terms"], mode=None,
                         time_limit_s=spec["time_limit_s"])
    out.needs = replace(out.needs, fields=frozenset(out.arguments))
    if spec["mode"] is not None:
        mode = dict(spec["mode"])
        probed = mode.pop("probed_on")
        out.mode, out.probed_on = Mode(**mode), math.inf if probed is None else probed
    return out


def _of_class(reward: Reward) -> Spec:
    """A Reward of somebody's own, by its class and what its `spec` says."""
    cls = type(reward)
    describe: Any = getattr(reward, "spec", None)
    if not callable(describe) or not callable(getattr(cls, "from_spec", None)):
        raise Unsupported(f"{reward.name} is a {cls.__name__}, which cannot say how to make it again; give the class a "
                          "method spec() that returns JSON, and a classmethod from_spec(spec)")
    options: Any = describe()
    _must_be_json(options, reward.name)
    return {"kind": "object", **source_of(cls, what=reward.name), "spec": options}


def _object(spec: Mapping[str, Any], parts: list[Reward], how: _How) -> Reward:
    cls = load_with_consent(spec, trust=how.trust, what="saved reward").thing
    if not isinstance(cls, type) or not issubclass(cls, Reward) or not hasattr(cls, "from_spec"):
        raise BadInput("saved reward", expected="a class of rewards with from_spec", received=spec["target"])
    make = cast(Any, cls).from_spec
    takes = inspect.signature(make).parameters
    make = functools.partial(make, **{k: v for k, v in vars(how).items() if k in takes and v is not None})
    return make(spec["spec"], parts) if issubclass(cls, Node) else make(spec["spec"])


_KINDS: Mapping[type[Reward], _Kind] = {
    algebra.Constant: _Kind("constant", lambda r: {"value": r.value}, lambda s, p, t: algebra.Constant(s["value"])),
    EnvReward: _Kind("env", lambda r: {}, lambda s, p, t: EnvReward()),
    FunctionReward: _Kind("function", _function_options, _function),
    Sum: _Kind("sum", lambda r: {"weights": [weight_spec(f) for f in r.factors]}, lambda s, p, t: Sum(
        [(weight_from_spec(w), part) for w, part in zip(s["weights"], p, strict=True)])),
    algebra.Clip: _Kind("clip", lambda r: {"limits": _limits((r.min, r.max))}, _clip),
    algebra.Gate: _Kind("gate", lambda r: {}, lambda s, p, t: algebra.Gate(*p)),
    algebra.Fallback: _Kind("fallback", lambda r: {}, lambda s, p, t: algebra.Fallback(*p)),
    algebra.Extreme: _Kind("extreme", lambda r: {"largest": r.largest}, lambda s, p, t: algebra.Extreme(
        p, largest=bool(s["largest"]))),
    algebra.Ensemble: _Kind("ensemble", lambda r: {}, lambda s, p, t: algebra.Ensemble(p)),
    algebra.OfMembers: _Kind("of members", lambda r: {"statistic": r.statistic}, lambda s, p, t: {
        "mean": algebra.mean, "std": algebra.std, "worst": algebra.worst}[s["statistic"]](*p)),
    algebra.PotentialDifference: _Kind("potential difference", lambda r: {"discount": r.discount}, lambda s, p, t:
                                       algebra.PotentialDifference(*p, discount=s["discount"])),
    algebra.Constrained: _Kind("constrained", lambda r: {
        "limit": r.limit, "multiplier": weight_spec(r.multiplier)}, _constrained),
    algebra.PerMember: _Kind("per member", lambda r: {}, lambda s, p, t: algebra.PerMember(p)),
}
_BY_NAME: Mapping[str, _Kind] = {kind.name: kind for kind in _KINDS.values()} | {
    "object": _Kind("object", lambda r: {}, _object)}


# --- files -------------------------------------------------------------------------------------------


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput("folder", expected="a folder", received=f"the file {folder}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).is_file():
        raise BadInput("folder", expected="a new or empty folder, or one that save_reward wrote", received=str(folder),
                       fix="name another one; nothing was touched")


def _write_state(state: Mapping[str, Any], folder: Path) -> dict[str, str]:
    draft = folder / f".state-{secrets.token_hex(4)}.safetensors"
    try:
        save_state(draft, state)
        sha256 = file_hash(draft)
        name = f"state-{sha256[:12]}.safetensors"
        os.replace(draft, folder / name)
    finally:
        draft.unlink(missing_ok=True)
    return {"file": name, "sha256": sha256}


def _read(file: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput("reward", expected=f"a folder with a {FILE} that save_reward wrote",
                       received=f"{file} ({error})") from error
    if not isinstance(content, dict) or cast("dict[str, Any]", content).get("format") != FORMAT:
        raise BadInput("reward", expected=f"a file of format {FORMAT}", received=str(file))
    return cast("dict[str, Any]", content)


def _state_path(file: Path, where: Any) -> Path:
    if not isinstance(where, dict) or not all(isinstance(where.get(k), str) for k in ("file", "sha256")):  # type: ignore[reportUnknownMemberType]
        raise BadInput("reward.json", expected="the name and hash of a state", received=repr(where)[:80])  # type: ignore[reportUnknownArgumentType]
    path = file.with_name(Path(cast(str, where["file"])).name)
    if not path.is_file():
        raise BadInput("state", expected="the file that reward.json names", received=f"{path}, which is missing")
    return path


def _must_be_json(value: Any, name: str) -> None:
    try:
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise Unsupported(f"{name} has options that JSON cannot hold: {repr(value)[:120]}")
