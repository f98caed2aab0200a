"""`plaudit optimize bandit`: policies on bandits, and decisions from logs; errors are one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from plaudit.cli.optimize_bandit import valued
from plaudit.optimize.bandits.making import EXAMPLES, make_bandit
from plaudit.tasks.bandits import Log, evaluate


def write_log(path, *, worth=(0.2, 0.8), rows=400, bad=None):
    rng = np.random.default_rng(0)
    lines = ["arm,reward,propensity"]
    for i in range(rows):
        k = int(rng.integers(2))
        reward = int(rng.random() < worth[k])
        lines.append(bad if i == 6 and bad else f"{'ab'[k]},{reward},0.5")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_policies_are_played_and_compared(run, here):
    done = run("optimize", "bandit", "--algo", "ucb1,random", "--task", "bernoulli", "--task-kwargs",
               '{"means": [0.1, 0.9]}', "--rounds", "200", "--runs", "3", "--out", "out")
    assert done.code == 0, done.err
    assert "ucb1" in done.out and "regret against optimum" in done.out
    kept = json.loads((here / "out" / "result.json").read_text())
    assert kept["ucb1"]["regret"]["mean"] < kept["random"]["regret"]["mean"]
    assert (here / "out" / "regret.png").read_bytes()[:4] == b"\x89PNG"


def test_a_bandit_may_come_from_a_file(run, here):
    (here / "mine.py").write_text("from plaudit.tasks.bandits import Gaussian\n"
                                  "def shop(means=(0.0, 1.0)):\n    return Gaussian(list(means))\n", encoding="utf-8")
    done = run("optimize", "bandit", "--task", "mine.py:shop", "--rounds", "50", "--runs", "2")
    assert done.code == 0 and "gaussian" in done.out


def test_a_log_becomes_a_decision_or_says_that_it_cannot(run, here):
    write_log(here / "log.csv")
    done = run("optimize", "bandit", "--task", "log.csv", "--out", "out")
    assert done.code == 0 and "take b" in done.out, done.err
    kept = json.loads((here / "out" / "result.json").read_text())
    assert kept["best"] == "b" and kept["sure"] and 0.6 < kept["values"]["b"]["mean"] < 0.9
    write_log(here / "even.csv", worth=(0.5, 0.5))
    assert "too close to tell" in run("optimize", "bandit", "--task", "even.csv").out


def test_the_interval_of_the_arm_that_looks_best_holds_its_value():
    """Ten arms of one value: with an interval of 95% for each, that of the best misses its value in a fifth of logs."""
    rng, runs, missed, single = np.random.default_rng(5), 300, 0, 0
    for _ in range(runs):
        log = Log.of(arm=rng.integers(10, size=600), reward=rng.normal(size=600), propensity="uniform")
        values, ahead = valued(log, estimator="ips")
        best = next(iter(values))
        assert list(values) == sorted(values, key=lambda name: -values[name].mean) and len(ahead) == 9
        missed += not values[best].low <= 0.0 <= values[best].high
        alone = evaluate(log, best, estimator="ips")
        single += not alone.low <= 0.0 <= alone.high
    assert missed / runs < 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5 < single / runs


def test_an_arm_of_few_rows_that_may_be_the_best_blocks_the_decision(run, here):
    """The best by mean is surely ahead of the runner-up, and not of the third, of which next to nothing is known."""
    rng = np.random.default_rng(0)
    arm = np.repeat(["a", "b", "c"], [600, 600, 12])
    few = rng.normal(scale=1.5, size=12)
    reward = np.concatenate([rng.normal(1.0, 0.3, 600), rng.normal(0.8, 0.3, 600), few - few.mean() + 0.7])
    share = {"a": 600 / 1212, "b": 600 / 1212, "c": 12 / 1212}
    mixed = rng.permutation(len(arm))
    rows = [f"{a},{r},{share[a]}\n" for a, r in zip(arm[mixed], reward[mixed], strict=True)]
    (here / "log.csv").write_text("arm,reward,propensity\n" + "".join(rows), encoding="utf-8")
    said = " ".join(run("optimize", "bandit", "--task", "log.csv", "--estimator", "snips", "--out", "out").out.split())
    kept = json.loads((here / "out" / "result.json").read_text())
    assert list(kept["values"]) == ["a", "b", "c"] and kept["sure"] is False and kept["ahead_of"] == "c"
    assert "a less c: 0.3 [" in said and "too close to tell" in said
    (here / "log.csv").write_text("arm,reward,propensity\n" + "".join(row for row in rows if row[0] != "c")
                                  + f"c,0.1,{share['c']}\n", encoding="utf-8")
    said = run("optimize", "bandit", "--task", "log.csv", "--estimator", "snips", "--vanished", "keep").out
    assert "cannot tell: c was chosen once" in " ".join(said.split()), "infinite intervals block too"


def test_intervals_of_several_say_that_they_hold_at_once(run, here):
    write_log(here / "log.csv")
    said = " ".join(run("optimize", "bandit", "--task", "log.csv", "--out", "out").out.split())
    assert "95% intervals that hold for all 2 arms at once (Bonferroni)" in said and "pairs" not in said
    kept = json.loads((here / "out" / "result.json").read_text())
    assert kept["confidence"] == {"values": 0.975, "ahead": 0.95}
    (here / "three.csv").write_text("arm,reward,propensity\n" + "a,1,0.4\nb,0,0.3\nc,2,0.3\na,0,0.4\n" * 20)
    assert "all 3 pairs at once" in " ".join(run("optimize", "bandit", "--task", "three.csv").out.split())
    words = ("optimize", "bandit", "--task", "bernoulli", "--task-kwargs", '{"means": [0.1, 0.9]}', "--rounds", "50",
             "--runs", "4", "--out", "played")
    assert "for all 2 policies at once" in " ".join(run(*words, "--algo", "ucb1,random").out.split())
    both = json.loads((here / "played" / "result.json").read_text())["ucb1"]["regret"]
    assert "at once" not in run(*words, "--algo", "ucb1").out
    alone = json.loads((here / "played" / "result.json").read_text())["ucb1"]["regret"]
    assert both["low"] < alone["low"] and alone["high"] < both["high"]


@pytest.mark.parametrize("estimator", ["dr", "ips", "snips", "dm"])
@pytest.mark.parametrize(("rows", "says"), [
    ("a,1,0.5\nb,0,0.5", "was chosen once"), ("a,0,0.5\nb,0,0.5\n" * 20, "cannot tell: all rewards are 0"),
    ("a,1,0.5\n" * 2 + "b,0,0.5\n" * 2, "tell"), ("a,1,0.5\nb,0,0.5\n" * 20, "take a")])
def test_a_log_of_few_rows_is_not_sure_of_anything(run, here, rows, says, estimator):
    (here / "log.csv").write_text("arm,reward,propensity\n" + rows.strip() + "\n", encoding="utf-8")
    done = run("optimize", "bandit", "--task", "log.csv", "--estimator", estimator, "--vanished", "keep",
               "--out", "out")
    assert done.code == 0 and says in " ".join(done.out.split()), done.out
    kept = json.loads((here / "out" / "result.json").read_text())
    assert kept["sure"] is (says == "take a") and says in kept["says"]
    assert kept["sure"] or kept["ahead"]["low"] is None or kept["ahead"]["low"] < 0
    assert kept["ahead"]["low"] is not None or kept["says"].startswith("cannot tell: ")


@pytest.mark.parametrize(("bad", "says"), [
    ("a,nan,0.5", "row 7, column 'reward'"), ("a,1,0", "row 7, column 'propensity'"),
    (",1,0.5", "row 7, column 'arm'")])
def test_a_bad_row_is_named(run, here, bad, says):
    write_log(here / "log.csv", bad=bad)
    done = run("optimize", "bandit", "--task", "log.csv")
    assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(("words", "says"), [
    (("--algo", "ubc1"), "algo: expected one of"), (("--task", "nowhere"), "task: expected one of"),
    (("--rounds", "0"), "--rounds"), (("--config", '{"scal": 1}'), "scal"), (("--config", "{"), "JSON"),
    (("--task", "missing.csv"), "a file that exists"),
    (("--algo", "dynlin-ucb", "--config", '{"rho": 1.2}'), "rho"),
    (("--algo", "linucb", "--task", "bernoulli", "--task-kwargs", '{"means": [0.1]}'), "features"),
])
def test_wrong_words_are_one_line(run, words, says):
    done = run("optimize", "bandit", *words)
    assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(("words", "says"), [
    (("--task", "log.csv", "--algo", "uccb1", "--rounds", "5"), "--algo, --rounds: expected not set"),
    (("--task", "log.csv", "--task-kwargs", "{ }"), "Replay in Python"),
    (("--task", "gaussian", "--estimator", "ips", "--on-nan", "drop"), "--estimator, --on-nan: expected not set")])
def test_options_of_the_other_mode_are_refused(run, here, words, says):
    write_log(here / "log.csv")
    done = run("optimize", "bandit", *words)
    assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1, done.err


def test_errors_about_a_log_name_the_options_of_the_command(run, here):
    write_log(here / "log.csv", bad="a,nan,0.5")
    done = run("optimize", "bandit", "--task", "log.csv")
    assert "--on-nan drop" in done.err and "on_nan" not in done.err
    assert run("optimize", "bandit", "--task", "log.csv", "--on-nan", "drop").code == 0


def test_one_row_says_that_it_cannot_tell(run, here):
    (here / "log.csv").write_text("arm,reward,propensity\na,1,0.3\n", encoding="utf-8")
    done = run("optimize", "bandit", "--task", "log.csv", "--estimator", "ips")
    assert done.code == 0 and "cannot tell what a is worth: a was chosen once" in " ".join(done.out.split())


SYSTEM = 'task = "causal"\nB = [[0, 1.0], [0, 0]]\nB_prime = [[0, -1.0], [0, 0]]\nSigma = [1.0, 0.5]\n'


def test_a_bandit_may_be_described_in_a_file(run, here):
    (here / "shop.toml").write_text(SYSTEM, encoding="utf-8")
    (here / "late.json").write_text(json.dumps({"task": "delayed", "of": {"task": "gaussian", "means": [0.0, 3.0]},
                                                "chances": [0.5, 0.5]}), encoding="utf-8")
    done = run("optimize", "bandit", "--algo", "csl-ucb,ucb1", "--task", "shop.toml", "--rounds", "200", "--runs", "2",
               "--config", '{"csl-ucb": {"noise": "estimated"}}', "--out", "out")
    assert done.code == 0 and "causal" in done.out and "note: the mean" in done.out, done.err
    kept = json.loads((here / "out" / "result.json").read_text())
    assert kept["csl-ucb"]["regret"]["mean"] < 200  # the two interventions that are wrong lose 2 a round
    late = run("optimize", "bandit", "--task", "late.json", "--rounds", "60", "--runs", "2")
    assert late.code == 0 and "delayed gaussian" in late.out


def test_payoffs_that_fall_are_projected_on_request_and_it_is_said(run):
    words = ("optimize", "bandit", "--task", "switching", "--algo", "switching-plan", "--rounds", "50", "--runs", "2")
    done = run(*words, "--task-kwargs", '{"payoffs": [[0.0, 0.4, 0.2, 1.0]]}')
    assert done.code == 2 and "monotone='project'" in done.err
    done = run(*words, "--task-kwargs", '{"payoffs": [[0.0, 0.4, 0.2, 1.0]], "monotone": "project"}')
    assert done.code == 0 and "projected to monotone ones, by up to 0.1" in " ".join(done.out.split())


@pytest.mark.parametrize(("text", "says"), [
    (SYSTEM.replace("[0, 0]]\nB", "[0.5, 0]]\nB"), "the ring 0 -> 1 -> 0"),
    (SYSTEM + "nuu = 1\n", "nuu: expected an argument"),
    (SYSTEM.replace('"causal"', '"casual"'), "task: expected one of"), (SYSTEM.replace("B_prime", "B"), "TOML object"),
    ("B_prime = 1\ntask = 'causal'", "no B"), ('task = "delayed"\nchances = [1.0]\nof = "gaussian"', "of: task")])
def test_a_wrong_description_is_one_line(run, here, text, says):
    (here / "shop.toml").write_text(text, encoding="utf-8")
    done = run("optimize", "bandit", "--task", "shop.toml")
    assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1, done.err


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_a_bandit_without_its_arguments_says_which_with_an_example_that_works(run, task):
    done = run("optimize", "bandit", "--task", task)
    assert done.code == 2 and f"--task-kwargs '{json.dumps(EXAMPLES[task])}'" in done.err
    assert make_bandit(task, options=EXAMPLES[task]).K > 1
