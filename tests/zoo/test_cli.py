from __future__ import annotations

import pytest

from plaudit.cli import zoo as cli
from plaudit.cli.main import main
from plaudit.core.intervals import Interval
from plaudit.zoo import registry
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, load_result
from plaudit.zoo.starc import StarcConfig


def experiment(config, lab):
    lab.plan(1)
    value = lab.unit("only", lambda: float(config.mdps))
    seen = Interval(value, value, value, config.seeds)
    return Outcome(arms=[Arm(name="worlds", metric="how many", value=seen)],
                   criteria=[Criterion(says="there are worlds", value=seen, above=0.0)])


def picture(result):
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


@pytest.fixture()
def toy(monkeypatch):
    system = System(number=99, name="toy", title="Toy", room="core", claim="worlds exist", run=experiment, draw=picture,
                    scales={"smoke": StarcConfig(mdps=2), "small": StarcConfig(mdps=3), "paper": StarcConfig(mdps=4)})
    monkeypatch.setattr(cli, "find", lambda name: system)
    return system


def test_list_names_every_system(capsys, tmp_path):
    assert main(["zoo", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(s.name in shown for s in registry.systems())
    assert "not run" in shown


def test_bare_names_are_one_a_line(capsys):
    assert main(["zoo", "--names"]) == 0
    assert capsys.readouterr().out.split() == [s.name for s in registry.systems()]


def test_run_writes_the_result_and_says_the_verdict(capsys, tmp_path, toy):
    assert main(["zoo", "run", "toy", "--scale", "small", "--seeds", "2", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "verdict: holds" in shown
    assert "there are worlds" in shown
    kept = load_result(tmp_path / "toy.json")
    assert (kept.seeds, kept.config["mdps"]) == (2, 3)
    assert (tmp_path / "toy.png").exists()


def test_options_of_the_system_come_after_two_dashes(tmp_path, toy):
    assert main(["zoo", "run", "toy", "--scale", "smoke", "--out", str(tmp_path), "--", "--mdps", "7"]) == 0
    assert load_result(tmp_path / "toy.json").config["mdps"] == 7


@pytest.mark.parametrize(("words", "text"), [(["run"], "plaudit zoo lists them"), (["run", "stark"], "did you mean")])
def test_bad_names_are_one_clear_line(capsys, words, text):
    assert main(["zoo", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: name") and text in said and said.count("\n") == 1


def test_ray_takes_an_address_or_nothing(monkeypatch, tmp_path, toy, capsys):
    given = []
    monkeypatch.setattr(cli, "run_system", lambda system, **options: given.append(options["ray"]) or 1 / 0)
    for words in ([], ["--ray"], ["--ray", "2"], ["--ray", "head:6379", "--", "--mdps", "7"], ["--ray", "a:1", "b:2"]):
        main(["zoo", "run", "toy", *words])
    assert given == [None, True, "2", "head:6379"]
    assert "--ray: expected at most one address, received a:1 b:2" in capsys.readouterr().err
