from __future__ import annotations

import hashlib
import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds, counter_uniform

INT64 = st.integers(-(2**63), 2**63 - 1)
GOLDEN, COLUMN, MASK = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 2**64 - 1


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def by_hand(seed: int, counter: int, k: int) -> list[float]:
    key = mix(mix(seed + GOLDEN & MASK) + counter * GOLDEN & MASK)
    return [(mix(key + (j + 1) * COLUMN & MASK) >> 11) / 2**53 for j in range(k)]


# --- the tree ---------------------------------------------------------------------------------------


def test_a_child_depends_on_its_path_and_not_on_the_order_of_calls() -> None:
    one, other = Seeds(3), Seeds(3)
    first = one.child("a").integer()
    other.child("b").integer()
    other.child("b").numpy().random(10)
    assert other.child("a").integer() == first
    assert one.child("a", 2) == one.child("a").child(2)
    assert one.child("a").torch().initial_seed() == one.child("a").torch().initial_seed()


def test_different_paths_give_different_seeds() -> None:
    root = Seeds(0)
    nodes = [root, root.child("a"), root.child("a", 1), root.child("a", "1"), root.child("a1"), root.child("a", "", 1),
             root.child('a","1'), root.child("a/1"), Seeds(1), Seeds(-1), root.child(1), root.child(0, 1)]
    nodes += [root.child("member", i) for i in range(2000)]
    assert len({n.integer() for n in nodes}) == len(nodes)
    assert len(set(nodes)) == len(nodes)


def test_what_a_node_gives_for_different_purposes_is_different() -> None:
    node = Seeds(5).child("x")
    drawn = [node.integer(), *node.integers(3), node.torch().initial_seed(), node.child(0).integer()]
    assert len(set(drawn)) == len(drawn)


def test_integers_do_not_depend_on_how_many_are_asked_for() -> None:
    assert Seeds(1).integers(8)[:3] == Seeds(1).integers(3)
    assert all(0 <= s < 2**63 for s in Seeds(1).integers(100))
    assert Seeds(1).integers(0) == []


def test_seeds_are_values() -> None:
    seeds = Seeds(4).child("a", 2)
    assert repr(seeds) == "Seeds(4).child('a', 2)"
    assert {seeds: 1}[Seeds(4).child("a", 2)] == 1
    with pytest.raises(AttributeError):
        seeds.root = 5  # type: ignore[misc]


def test_the_numbers_are_the_same_in_another_process() -> None:
    code = "from plaudit.core.seeds import Seeds; print(Seeds(9).child('x', 1).integer())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == Seeds(9).child("x", 1).integer()
    plain = hashlib.sha256(b'[["integer"], 9, ["x", 1]]').digest()
    assert Seeds(9).child("x", 1).integer() == int.from_bytes(plain[:8], "big") >> 1


def test_generators_start_afresh_and_are_seeded_by_the_path() -> None:
    node = Seeds(2).child("noise")
    assert (node.numpy().random(5) == node.numpy().random(5)).all()
    assert (node.numpy().random(5) != node.child("more").numpy().random(5)).all()
    assert torch.equal(torch.rand(5, generator=node.torch()), torch.rand(5, generator=node.torch()))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tests' own type checks, as a user meets the library."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_numpy_integers_are_integers(unchecked: None) -> None:
    assert repr(Seeds(np.int64(4)).child("a", np.int32(2))) == "Seeds(4).child('a', 2)"  # type: ignore[arg-type]


@pytest.mark.parametrize("root", [1.5, "7", None, True])
def test_a_root_that_is_no_integer_is_refused(root: object, unchecked: None) -> None:
    with pytest.raises(BadInput, match="root"):
        Seeds(root)  # type: ignore[arg-type]


def test_a_name_that_is_no_text_or_integer_is_refused(unchecked: None) -> None:
    with pytest.raises(BadInput, match="path"):
        Seeds(0).child(1.5)  # type: ignore[arg-type]


# --- counters -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=6), st.integers(0, 5))
def test_numpy_and_torch_give_the_bits_of_the_definition(rows: list[tuple[int, int]], k: int) -> None:
    seed, counter = np.array([r[0] for r in rows], dtype=np.int64), np.array([r[1] for r in rows], dtype=np.int64)
    ours = counter_uniform(seed, counter, k)
    torchs = counter_uniform(torch.from_numpy(seed), torch.from_numpy(counter), k)
    assert ours.tolist() == torchs.tolist() == [by_hand(s % 2**64, c % 2**64, k) for s, c in rows]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_both_dtypes_agree_and_stay_below_one(dtype: str) -> None:
    seed = np.arange(200_000) * 7 - 12345
    ours = counter_uniform(seed, 3, 4, dtype=dtype)  # type: ignore[call-overload]
    torchs = counter_uniform(torch.from_numpy(seed), 3, 4, dtype=dtype)  # type: ignore[call-overload]
    assert ours.dtype == np.dtype(dtype) and str(torchs.dtype) == f"torch.{dtype}"
    assert (ours == torchs.numpy()).all() and ours.min() >= 0 and ours.max() < 1


def test_a_row_does_not_depend_on_the_other_rows_nor_on_k() -> None:
    seed, counter = torch.tensor([4, -9, 2**62]), torch.tensor([0, 5, 7])
    full = counter_uniform(seed, counter, 6)
    for b in range(3):
        assert torch.equal(counter_uniform(seed[b : b + 1], counter[b : b + 1], 2)[0], full[b, :2])
    assert torch.equal(counter_uniform(seed[[2, 0]], counter[[2, 0]], 6), full[[2, 0]])


def test_xp_chooses_the_library_for_lists() -> None:
    assert isinstance(counter_uniform([1, 2], [0, 0], 1, xp=np), np.ndarray)
    assert isinstance(counter_uniform([1, 2], [0, 0], 1, xp=torch), torch.Tensor)
    assert counter_uniform(Seeds(0).integers(2), 0, 1).shape == (2, 1)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return abs(float(np.corrcoef(x.ravel(), y.ravel())[0, 1]))


def test_the_numbers_look_uniform_and_independent() -> None:
    n = 40_000
    by_seed, by_counter = counter_uniform(np.arange(n), 0, 4), counter_uniform(np.full(n, 11), np.arange(n), 4)
    for u in (by_seed, by_counter):
        assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * u.size)
        assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / u.size)
        assert correlation(u[:-1], u[1:]) < 5 / np.sqrt(u.size)  # neighbours in seed or counter
        assert correlation(u[:, :-1], u[:, 1:]) < 5 / np.sqrt(u.size)  # neighbours in column
        counts = np.histogram(u, 64, (0, 1))[0]
        chi2 = ((counts - u.size / 64) ** 2 / (u.size / 64)).sum()
        assert abs(chi2 - 63) < 5 * np.sqrt(2 * 63)
    assert correlation(by_seed, by_counter) < 5 / np.sqrt(by_seed.size)
    shifted = counter_uniform(np.arange(n), np.arange(n), 1)  # along the diagonal
    assert correlation(shifted[:-1], shifted[1:]) < 5 / np.sqrt(n)


def test_the_check_above_rejects_a_generator_without_mixing() -> None:
    weyl = (np.arange(40_000, dtype=np.uint64) * np.uint64(GOLDEN) >> np.uint64(11)) * 2.0**-53
    assert correlation(weyl[:-1], weyl[1:]) > 5 / np.sqrt(weyl.size)


@pytest.mark.parametrize(("seed", "counter", "k", "name"), [
    (np.array([1.5]), np.array([0]), 1, "seed_B"), (np.array([[1]]), np.array([0]), 1, "seed_B"),
    (np.array([1]), np.array([0.0]), 1, "counter_B"), (torch.tensor([1.0]), torch.tensor([0]), 1, "seed_B"),
    (torch.tensor(1), torch.tensor([0]), 1, "seed_B"), (np.array([1]), np.array([0]), -1, "k"),
])
def test_wrong_counters_are_refused_by_name(seed: object, counter: object, k: int, name: str) -> None:
    with pytest.raises(BadInput, match=f"^{name}"):
        counter_uniform(seed, counter, k)  # type: ignore[call-overload]
