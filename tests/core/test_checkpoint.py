from __future__ import annotations

import json
import math
import os
import pickle
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from plaudit.core import checkpoint
from plaudit.core.checkpoint import load_state, read_tensors, replacing, save_state, write_tensors, write_text
from plaudit.core.errors import BadInput, PlauditError


def same(a: Any, b: Any) -> bool:
    """Equal in type, form and every bit; NaN equals NaN."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b and str(a) == str(b) or a != a and b != b)


def bits(x: Tensor) -> bytes:
    return x.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b""


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tests' own type checks, as a user meets the library."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# --- tensors --------------------------------------------------------------------------------------------

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
          torch.float32, torch.float64, torch.uint16, torch.uint32, torch.uint64, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 3)], ids=str)
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.randn(shape) * 5).abs().to(dtype)
    write_tensors(tmp_path / "x.safetensors", {"x": tensor}, {"a": "b"})
    tensors, meta = read_tensors(tmp_path / "x.safetensors")
    assert same(tensors, {"x": tensor}) and meta == {"a": "b"}


def test_views_shared_memory_and_gradients_are_written_as_values(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    given = {"base": base, "again": base, "turned": base.T, "row": base[1], "column": base[:, 2],
             "wide": base[:1].expand(5, 4), "parameter": torch.nn.Parameter(base),
             "conjugate": torch.tensor([1 + 2j]).to(torch.complex64).conj()}
    write_tensors(tmp_path / "x.safetensors", given)
    back, _ = read_tensors(tmp_path / "x.safetensors")
    assert all(same(back[k], given[k].detach().clone().resolve_conj()) for k in given)
    back["base"].zero_()
    assert back["again"].sum() == 66


def test_non_finite_numbers_keep_their_bits(tmp_path: Path) -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45])
    write_tensors(tmp_path / "x.safetensors", {"x": x})
    assert bits(read_tensors(tmp_path / "x.safetensors")[0]["x"]) == bits(x)


@pytest.mark.parametrize(("tensors", "message"), [
    ({"x": torch.eye(2).to_sparse()}, "sparse"), ({"x": torch.zeros(1, dtype=torch.complex128)}, "complex128"),
    ({"x": torch.zeros(1, device="meta")}, "meta"), ({"__metadata__": torch.zeros(1)}, "__metadata__"),
    ({3: torch.zeros(1)}, "3"), ({"x": np.zeros(1)}, "ndarray"),
])
def test_what_safetensors_cannot_keep_is_refused_before_anything_is_written(
        tmp_path: Path, tensors: dict[Any, Any], message: str, unchecked: None) -> None:
    write_tensors(tmp_path / "x.safetensors", {"old": torch.ones(1)})
    with pytest.raises(BadInput, match=message):
        write_tensors(tmp_path / "x.safetensors", tensors)
    assert list(read_tensors(tmp_path / "x.safetensors")[0]) == ["old"]


def test_the_same_content_has_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """safetensors orders its metadata by a hash that differs between processes."""
    code = ("import sys, torch; from plaudit.core.checkpoint import write_tensors; "
            "write_tensors(sys.argv[1], {'w': torch.arange(3)}, "
            "{k: 'ü\\x01\\n\\t' * i for i, k in enumerate('gecadbf')})")
    there, here = tmp_path / "there.safetensors", tmp_path / "here.safetensors"
    subprocess.run([sys.executable, "-c", code, str(there)], check=True)
    write_tensors(here, {"w": torch.arange(3)},
                  {k: "ü\x01\n\t" * i for i, k in enumerate("gecadbf")})
    assert there.read_bytes() == here.read_bytes()
    tensors, meta = read_tensors(there)
    assert meta["a"] == "ü\x01\n\t" * 3 and torch.equal(tensors["w"], torch.arange(3))


def test_meta_that_is_no_text_is_refused(tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(BadInput, match="meta"):
        write_tensors(tmp_path / "x.safetensors", {}, {"step": 3})  # type: ignore[dict-item]


def test_nothing_at_all_comes_back_as_nothing(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {})
    assert read_tensors(tmp_path / "x.safetensors") == ({}, {})


def test_missing_foreign_and_damaged_files_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    write_tensors(good, {"x": torch.ones(100)})
    cases = {"missing": None, "empty": b"", "text": b"not tensors at all", "short": good.read_bytes()[:-7],
             "pickle": pickle.dumps({"x": [1, 2]}), "header": b"\xff" * 64}
    for name, content in cases.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadInput, match=name):
            read_tensors(path)
    with pytest.raises(BadInput, match="folder"):
        read_tensors(tmp_path)


# --- atomic ---------------------------------------------------------------------------------------------


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    for interruption in (KeyboardInterrupt, ValueError):
        with pytest.raises(interruption), replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise interruption
    assert path.read_text() == "old" and leftovers(tmp_path) == []


def test_a_writer_that_is_not_atomic_would_fail_the_test_above(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), path.open("w") as file:
        file.write("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() != "old"


FULL = """
import resource, sys, torch
from plaudit.core.checkpoint import save_state
from plaudit.core.errors import PlauditError
save_state(sys.argv[1], {"x": torch.ones(4)})
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # the kernel refuses to grow any file beyond 8 kB
for path in sys.argv[1:]:
    try:
        save_state(path, {"x": torch.zeros(100_000)})
    except PlauditError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="resource limits are POSIX")
def test_when_the_file_system_refuses_the_old_file_is_intact(tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    run = subprocess.run([sys.executable, "-c", FULL, str(old), str(new)], capture_output=True, text=True, check=True)
    first, second = run.stdout.splitlines()
    assert str(old) in first and "too large" in first and "intact" in first
    assert str(new) in second and "no file was made" in second
    assert load_state(old)["x"].tolist() == [1.0] * 4
    assert not new.exists() and leftovers(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = save_state(tmp_path, {"x": 1})
    monkeypatch.setattr(checkpoint.os, call, full)
    with pytest.raises(PlauditError, match="No space left on device; the file that was there is intact") as error:
        save_state(tmp_path, {"x": 2})
    assert str(path) in str(error.value) and load_state(tmp_path) == {"x": 1} and leftovers(tmp_path) == []


def test_a_parent_that_is_a_file_is_an_error_and_missing_parents_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "deep")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "deep"
    with pytest.raises(PlauditError, match=r"c\.txt"):
        write_text(tmp_path / "a" / "b" / "c.txt" / "d.txt", "deeper")
    with pytest.raises(BadInput, match="folder"):
        write_text(tmp_path / "a", "over a folder")


def test_a_new_file_has_the_usual_rights_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = save_state(tmp_path, {})
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    path.chmod(0o640)
    save_state(tmp_path, {"x": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_keeps_pointing_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "real.txt", "old")
    (tmp_path / "latest.txt").symlink_to("real.txt")
    write_text(tmp_path / "latest.txt", "new")
    assert (tmp_path / "latest.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"


def test_what_a_killed_writer_left_is_swept_later(tmp_path: Path) -> None:
    stale, fresh, other = tmp_path / ".x.txt.aa.tmp", tmp_path / ".x.txt.bb.tmp", tmp_path / ".y.txt.aa.tmp"
    for path in (stale, fresh, other):
        path.touch()
    for path in (stale, other):
        os.utime(path, (time.time() - 7200,) * 2)
    write_text(tmp_path / "x.txt", "new")
    assert leftovers(tmp_path) == [p.name for p in tmp_path.iterdir() if p in (fresh, other)]


# --- state ----------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(width=64) | st.text()
KEYS = st.text(st.sampled_from("ab/~$0_")) | st.integers(-3, 3) | st.just("__metadata__")
TENSORS = st.sampled_from([torch.tensor(1.5), torch.zeros(0), torch.arange(3), np.array(2), np.array([True])])
NESTED = st.recursive(
    SCALARS | TENSORS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
STATES = st.dictionaries(st.text(st.sampled_from("ab/~$0_")), NESTED)


@given(state=STATES)
def test_every_nested_state_comes_back(tmp_path_factory: pytest.TempPathFactory, state: dict[Any, Any]) -> None:
    folder = tmp_path_factory.mktemp("state")
    save_state(folder, state)
    assert same(load_state(folder), state)


def test_keys_that_look_like_our_marks_or_collide_come_back(tmp_path: Path) -> None:
    state = {"$tensor": "x", "a": {"$float": "nan"}, "b": {0: torch.zeros(1), "0": torch.ones(1)},
             "c/d": torch.zeros(2), "c": {"d": torch.ones(2)}, "c~1d": torch.ones(4), "": torch.zeros(3),
             "__metadata__": torch.ones(3)}
    save_state(tmp_path, state)
    assert same(load_state(tmp_path), state)


def test_numpy_numbers_come_back_as_pythons_and_tuples_as_lists(tmp_path: Path) -> None:
    save_state(tmp_path, {"i": np.int64(3), "f": np.float32(0.1), "b": np.bool_(True), "n": np.float64("nan"),
                          "t": (1, (2, 3))})
    back = load_state(tmp_path)
    assert back["i"] == 3 and type(back["i"]) is int
    assert back["f"] == float(np.float32(0.1)) and type(back["f"]) is float
    assert back["b"] is True and back["t"] == [1, [2, 3]] and math.isnan(back["n"])


def test_arrays_of_every_layout_come_back(tmp_path: Path) -> None:
    a = np.arange(12, dtype=np.float64).reshape(3, 4)
    read_only = np.arange(3)
    read_only.flags.writeable = False
    state = {"f": np.asfortranarray(a), "step": a[::-1, ::2], "big": a.astype(">f8"), "ro": read_only,
             "half": a.astype(np.float16)}
    save_state(tmp_path, state)
    back = load_state(tmp_path)
    assert all((back[k] == state[k]).all() for k in state) and back["big"].dtype == np.float64
    back["f"][0, 0] = 7.0  # writable


@pytest.mark.parametrize(("value", "message"), [
    (object(), "object"), ({1, 2}, "set"), (b"raw", "bytes"), (1j, "complex"), (np.array(["text"]), "dtype"),
    (np.array([None]), "object"), ({1.5: 2}, "keys"), ({True: 2}, "keys"), (torch.eye(2).to_sparse(), "sparse"),
    (lambda: 0, "function"),
])
def test_what_cannot_be_kept_is_named_with_its_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=r"^state\['a'\]\['1'\].*" + message):
        save_state(tmp_path, {"a": [0, value]})
    assert list(tmp_path.iterdir()) == []


def test_a_state_is_a_dictionary(tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(BadInput, match="dictionary"):
        save_state(tmp_path, [1])  # type: ignore[arg-type]


def test_long_lists_belong_into_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_LONGEST_METADATA", 100)
    with pytest.raises(BadInput, match="tensors"):
        save_state(tmp_path, {"x": list(range(100))})


def test_a_folder_and_its_file_are_the_same_path(tmp_path: Path) -> None:
    assert save_state(tmp_path / "run", {"x": 1}) == tmp_path / "run" / "state.safetensors"
    assert load_state(tmp_path / "run") == load_state(tmp_path / "run" / "state.safetensors") == {"x": 1}


def test_other_formats_versions_and_damaged_text_are_refused(tmp_path: Path) -> None:
    file = save_state(tmp_path, {"x": torch.ones(2), "y": math.inf})
    tensors, meta = read_tensors(file)
    assert meta["version"] == "1"
    wrong = [({**meta, "version": "2"}, "version"), ({**meta, "format": "other"}, "save_state"), ({}, "save_state"),
             ({**meta, "state": meta["state"][:-3]}, "whole"), ({**meta, "state": '{"x":{"$tensor":"gone"}}'}, "whole"),
             ({**meta, "state": '{"x":{"$float":[]}}'}, "whole"), ({**meta, "state": '{"$items":[3]}'}, "whole"),
             ({**meta, "state": '[1]'}, "whole")]
    for changed, message in wrong:
        write_tensors(file, tensors, changed)
        with pytest.raises(BadInput, match=message):
            load_state(file)


def test_the_text_of_a_file_is_strict_json(tmp_path: Path) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    _, meta = read_tensors(save_state(tmp_path, {"a": math.nan, "b": [math.inf, -math.inf]}))
    json.loads(meta["state"], parse_constant=refuse)


def test_reading_executes_nothing(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    path = tmp_path / "bomb.safetensors"
    for content in (pickle.dumps(Bomb()), b"\x10" + b"\0" * 7 + pickle.dumps(Bomb())):
        path.write_bytes(content)
        with pytest.raises(BadInput):
            load_state(path)
    torch.save(Bomb(), path)
    with pytest.raises(BadInput):
        load_state(path)
    assert not (tmp_path / "executed").exists()


# --- what runs are made of ----------------------------------------------------------------------------------


def learner(name: str, seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.Generator]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    groups = [{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[2].parameters(), "weight_decay": 0.1}]
    return model, getattr(torch.optim, name)(groups, lr=3e-3), torch.Generator().manual_seed(seed)


def train(model: torch.nn.Module, optimiser: torch.optim.Optimizer, noise: torch.Generator, steps: int) -> None:
    for _ in range(steps):
        optimiser.zero_grad()
        (model(torch.randn(16, 4, generator=noise)) ** 2).mean().backward()
        optimiser.step()


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop"])
def test_a_resumed_optimiser_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    parts = learner(name, 0)
    train(*parts, steps=5)
    model, optimiser, noise = parts
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "noise": noise.get_state()}
    save_state(tmp_path, state)
    back = load_state(tmp_path)
    assert same(back, state | {"model": dict(state["model"])})
    train(*parts, steps=5)

    other, other_optimiser, other_noise = learner(name, 1)
    other.load_state_dict(back["model"])
    other_optimiser.load_state_dict(back["optimiser"])
    other_noise.set_state(back["noise"])
    train(other, other_optimiser, other_noise, steps=5)
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(other_optimiser.state_dict(), optimiser.state_dict())


def test_without_the_optimisers_state_a_resumed_run_would_differ(tmp_path: Path) -> None:
    model, optimiser, noise = parts = learner("Adam", 0)
    train(*parts, steps=5)
    save_state(tmp_path, {"model": model.state_dict(), "noise": noise.get_state()})
    train(*parts, steps=5)
    other, fresh, other_noise = learner("Adam", 1)
    other.load_state_dict(load_state(tmp_path)["model"])
    other_noise.set_state(load_state(tmp_path)["noise"])
    train(other, fresh, other_noise, steps=5)
    assert not same(dict(other.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_a_restored_generator_draws_the_same_numbers(tmp_path: Path, kind: Any) -> None:
    generator = np.random.Generator(kind(3))
    generator.random(7)
    save_state(tmp_path, {"state": generator.bit_generator.state})
    expected = generator.standard_normal(50)
    other = np.random.Generator(kind(4))
    other.bit_generator.state = load_state(tmp_path)["state"]
    assert (other.standard_normal(50) == expected).all()
