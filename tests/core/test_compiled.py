from __future__ import annotations

import math

import numpy as np
import pytest

from plaudit.core import extras
from plaudit.core.compiled import compiled, sources
from plaudit.core.errors import MissingExtra

numba = pytest.importorskip("numba")


def adder(stamp):
    @compiled
    def add(x):
        version = stamp  # noqa: F841
        return x + 1.0

    return add


def test_compiled_code_is_kept_and_made_anew_where_what_it_calls_has_changed(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def met(stamp):
        add = adder(stamp)
        assert add(1.0) == 2.0
        return sum(add.stats.cache_hits.values()), sum(add.stats.cache_misses.values())

    assert [met(1), met(1), met(2)] == [(0, 1), (1, 0), (0, 1)]


def test_sources_see_a_change_of_any_file(tmp_path):
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    a.write_text("x = 1")
    b.write_text("y = 1")
    before = sources(str(a), str(b))
    assert before == sources(str(a), str(b)) and before > 0
    b.write_text("y = 2")
    assert sources(str(a), str(b)) != before


def test_a_function_that_cannot_be_kept_is_compiled_all_the_same():
    space = {}
    exec(compile("def double(x):\n    return 2 * x", "<nowhere>", "exec"), space)  # noqa: S102
    assert compiled(space["double"])(4) == 8


def test_nan_stays_nan():
    @compiled
    def total(x):
        out = np.float32(0)
        for v in x:
            out += v
        return out

    assert math.isnan(total(np.array([1, math.nan, 2], np.float32)))


def test_without_numba_the_extra_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'plaudit\[fast\]'"):
        compiled(lambda x: x)
