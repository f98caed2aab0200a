from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from plaudit.core import provenance
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.zoo import registry, table
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, decide, load_result
from plaudit.zoo.lab import Lab, run_system

CALLS: list[int] = []


@dataclass(frozen=True, kw_only=True)
class Options:
    seeds: int = 3
    fails_at: int = -1


def experiment(config, lab):
    """Squares: unit i is i squared, and a unit can be made to die."""
    lab.plan(config.seeds)

    def work(i):
        if i == config.fails_at:
            raise KeyboardInterrupt
        CALLS.append(i)
        return float(i * i)

    values = [lab.unit(f"unit {i}", lambda i=i: work(i)) for i in range(config.seeds)]
    mean = Interval(sum(values) / len(values), min(values), max(values), len(values))
    return Outcome(arms=[Arm(name="square", metric="value", value=mean)], data={"values": values},
                   criteria=[Criterion(says="squares are not negative", value=mean, above=-1.0)])


def picture(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().plot(result.data["values"])
    return figure


def system(name="toy"):
    return System(number=99, name=name, title="Toy", room="core", claim="squares are squares", run=experiment,
                  draw=picture, scales={"smoke": Options(), "small": Options(seeds=4), "paper": Options(seeds=5)})


@pytest.fixture(autouse=True)
def _forget_calls():
    CALLS.clear()


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high", "verdict"), [
    (0.1, 0.3, "holds"), (-0.1, 0.3, "inconclusive"), (-0.3, -0.1, "does not hold"), (0.0, 0.3, "inconclusive"),
    (-0.3, 0.0, "does not hold"), (math.nan, 0.3, "inconclusive"), (-math.inf, math.inf, "inconclusive"),
])
def test_verdict_is_read_off_the_interval(low, high, verdict):
    assert Criterion(says="", value=Interval(0.1, low, high, 5), above=0.0).verdict == verdict


@pytest.mark.parametrize(("low", "high", "verdict"), [
    (-0.04, 0.04, "holds"), (0.02, 0.08, "inconclusive"), (0.06, 0.08, "does not hold"), (-0.2, 0.2, "inconclusive")])
def test_likeness_needs_the_whole_interval_inside_the_band(low, high, verdict):
    assert Criterion(says="", value=Interval(0, low, high, 5), above=-0.05, below=0.05).verdict == verdict


def test_one_refuted_criterion_refutes_the_claim():
    good, bad, unsure = (Criterion(says="", value=Interval(0, a, b, 5), above=0.0)
                         for a, b in ((1, 2), (-2, -1), (-1, 1)))
    assert decide([good, good]) == "holds"
    assert decide([good, unsure]) == "inconclusive"
    assert decide([good, unsure, bad]) == "does not hold"
    assert decide([]) == "inconclusive"


# --- running -----------------------------------------------------------------------------------------------


def test_result_carries_all_that_the_contract_names_and_comes_back(tmp_path):
    result = run_system(system(), scale="small", out=tmp_path)
    raw = json.loads((tmp_path / "toy.json").read_text())
    assert {"number", "name", "scale", "verdict", "claim", "arms", "seconds", "machine", "config", "code_hash",
            "versions", "seeds", "date"} <= raw.keys()
    assert raw["verdict"] == "holds"
    assert raw["criteria"][0]["below"] is None
    assert load_result(tmp_path / "toy.json") == result
    assert (tmp_path / "toy.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy.json", "toy.png"]


def test_killed_run_goes_on_where_it_stopped(tmp_path):
    """The same options and code: finished units are read, not made again."""
    dying = Options(seeds=4, fails_at=2)
    with pytest.raises(KeyboardInterrupt):
        run_system(system(), config=dying, out=tmp_path)
    assert CALLS == [0, 1]
    assert not (tmp_path / "toy.json").exists()
    with pytest.raises(KeyboardInterrupt):
        run_system(system(), config=dying, out=tmp_path)
    assert CALLS == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        run_system(system(), config=Options(seeds=5, fails_at=2), out=tmp_path)
    assert CALLS == [0, 1, 0, 1]


def test_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = run_system(system(), scale="small", out=tmp_path / "whole")
    real = Lab.unit

    def dies(self, name, work):
        if name == "unit 3":
            raise KeyboardInterrupt
        return real(self, name, work)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lab, "unit", dies)
        run_system(system(), scale="small", out=tmp_path / "parts")
    CALLS.clear()
    resumed = run_system(system(), scale="small", out=tmp_path / "parts")
    assert CALLS == [3]
    assert (resumed.arms, resumed.data, resumed.config) == (whole.arms, whole.data, whole.config)


def test_scale_and_seeds_choose_the_size(tmp_path):
    assert run_system(system(), scale="smoke").data["values"] == [0.0, 1.0, 4.0]
    assert run_system(system(), scale="smoke", seeds=2).config["seeds"] == 2
    run_system(system(), scale="paper", out=tmp_path)
    assert (tmp_path / "toy-paper.json").exists()


def test_progress_ends_at_one():
    seen = []
    run_system(system(), scale="smoke", progress=lambda done, text: seen.append((done, text)))
    assert seen == [(pytest.approx(1 / 3), "unit 0"), (pytest.approx(2 / 3), "unit 1"), (1.0, "unit 2")]


def test_file_of_another_is_not_overwritten(tmp_path):
    (tmp_path / "toy.json").write_text("{}")
    with pytest.raises(BadInput, match="plaudit zoo run"):
        run_system(system(), scale="smoke", out=tmp_path)
    assert (tmp_path / "toy.json").read_text() == "{}"


def lucky(config, seeds, *, i, died=None):
    """A number that depends on the options, the seeds and the job; dies once where it is told to."""
    if died is not None and not Path(died).exists():
        Path(died).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    CALLS.append(i)
    assert isinstance(config, Nested)
    assert isinstance(config.sizes, tuple)
    assert isinstance(config.inner, Options)
    return config.inner.seeds + i + float(seeds.child("unit", i).numpy().random())


@dataclass(frozen=True, kw_only=True)
class Nested:
    inner: Options = Options()
    sizes: tuple[int, ...] = (1, 2)
    seeds: int = 3
    died: str | None = None


def many(config, lab):
    lab.plan(config.seeds + 1)
    values = lab.units(lucky, {f"unit {i}": {"i": i, "died": config.died if i == 1 else None}
                               for i in range(config.seeds)})
    values.append(lab.unit("last", lambda: 0.5))
    mean = Interval(0.5, 0.0, 1.0, config.seeds)
    return Outcome(arms=[Arm(name="luck", metric="value", value=mean)], data={"values": values}, criteria=[])


def lucky_system():
    return replace(system("lucky"), run=many, scales={s: Nested() for s in ("smoke", "small", "paper")})


def test_units_get_options_seeds_and_job():
    seen = []
    result = run_system(lucky_system(), progress=lambda done, text: seen.append((done, text)))
    seeds = Seeds(0).child("lucky")
    assert result.data["values"] == [3 + i + float(seeds.child("unit", i).numpy().random()) for i in range(3)] + [0.5]
    assert seen == [(0.25, "unit 0"), (0.5, "unit 1"), (0.75, "unit 2"), (1.0, "last")]


def somewhere(config, seeds, *, i, device="cpu"):
    return [i, device]


def test_units_that_learn_are_given_the_device_and_others_are_not():
    lab = Lab(seeds=Seeds(0), config=Nested(), device="cuda:1")
    assert lab.units(somewhere, {"a": {"i": 1}, "b": {"i": 2}}) == [[1, "cuda:1"], [2, "cuda:1"]]
    assert len(lab.units(lucky, {"c": {"i": 1, "died": None}})) == 1
    assert Lab(seeds=Seeds(0), config=Nested()).units(somewhere, {"a": {"i": 1}}) == [[1, "cpu"]]


def test_units_go_on_where_a_run_stopped(tmp_path, monkeypatch):
    whole = run_system(lucky_system()).data
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        def dies(self, name, work):
            raise KeyboardInterrupt

        patch.setattr(Lab, "unit", dies)
        run_system(lucky_system(), out=tmp_path)
    CALLS.clear()
    seen = []
    resumed = run_system(lucky_system(), out=tmp_path, progress=lambda done, text: seen.append(done))
    assert CALLS == []
    assert resumed.data == whole
    assert seen == [0.75, 1.0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lucky.json", "lucky.png"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow  # a local Ray needs 5 seconds to start and its workers 3 more
def test_units_on_ray_have_the_same_numbers_though_a_worker_dies(tmp_path):
    died = tmp_path / "died"
    found = run_system(lucky_system(), config=Nested(died=str(died)), ray="2")
    assert died.exists()
    assert CALLS == []
    assert found.data == run_system(lucky_system()).data


def test_units_without_a_folder_are_simply_run():
    lab = Lab(seeds=Seeds(0))
    assert [lab.unit("same", lambda: 3), lab.unit("same", lambda: 4)] == [3, 4]


@pytest.mark.parametrize(("kwargs", "text"), [({"seeds": 0}, "seeds"), ({"scale": "large"}, "scale"),
                                            ({"device": "gpu"}, "device: expected a device of torch")])
def test_bad_options_are_named(kwargs, text):
    with pytest.raises(BadInput, match=text):
        getattr(run_system, "__wrapped__", run_system)(system(), **kwargs)


def test_system_needs_all_scales():
    with pytest.raises(BadInput, match="scales"):
        System(number=1, name="x", title="", room="core", claim="", run=experiment, draw=picture,
               scales={"smoke": Options()})


# --- provenance --------------------------------------------------------------------------------------------


def test_hash_covers_what_is_imported_and_nothing_else():
    reached = provenance.reached("plaudit.zoo.starc")
    assert {"plaudit.zoo.starc", "plaudit.auditing.distances.tabular", "plaudit.optimize.tabular",
            "plaudit.core.seeds"} <= reached
    assert not any(name.startswith(("plaudit.cli", "plaudit.optimize.rl")) for name in reached)


def test_hash_changes_with_a_module_that_is_reached(tmp_path, monkeypatch):
    before = provenance.code_hash("plaudit.zoo.starc")
    changed = tmp_path / "tabular.py"
    changed.write_text("x = 1\n")
    real = provenance._path

    def path(name):
        return changed if name == "plaudit.optimize.tabular" else real(name)

    monkeypatch.setattr(provenance, "_path", path)
    assert provenance.code_hash("plaudit.zoo.starc") != before
    assert "plaudit.optimize.paths" not in provenance.reached("plaudit.optimize.tabular")


# --- the list ----------------------------------------------------------------------------------------------


def test_systems_are_found_by_module():
    found = registry.systems()
    assert [s.number for s in found] == sorted(s.number for s in found)
    assert len({s.name for s in found}) == len(found)
    assert registry.find("starc") is registry.find("8") is registry.find("08")
    with pytest.raises(BadInput, match="did you mean starc"):
        registry.find("stark")


def test_table_shows_what_has_been_run_and_what_has_not(tmp_path, monkeypatch):
    ours = [system("toy"), system("other")]
    for module in (registry, table):
        monkeypatch.setattr(module, "systems", lambda: ours)
    run_system(ours[0], scale="small", out=tmp_path)
    assert [row[3:5] for row in table.rows(tmp_path)] == [("small", "holds"), ("–", "not run")]
    run_system(ours[0], scale="paper", out=tmp_path)
    assert table.rows(tmp_path)[0][3] == "paper"
    text = table.markdown(tmp_path, details=True, figures="../results")
    assert "| 99 | `toy` | core | paper | holds |" in text
    assert "![toy](../results/toy-paper.png)" in text
    assert "squares are not negative | > -1" in text
