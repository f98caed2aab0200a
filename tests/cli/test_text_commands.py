"""`plaudit score`, `evaluate` and `serve` on a tiny reward model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest


@pytest.fixture
def rows(here):
    """Preferences in which the longer answer is better."""
    file = here / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{i}?", "chosen": "x" * (i + 2), "rejected": "x",
                                        "subset": "even" if i % 2 == 0 else "odd"}) + "\n" for i in range(12)))
    (here / "mine.py").write_text("def long(completion_text):\n    return float(len(completion_text))\n")
    return file


def test_a_file_is_scored_with_a_model_and_with_a_function(run, here, rows, tiny_reward):
    ran = run("score", "--model", str(tiny_reward), "--data", "rows.jsonl", "--out", "out.jsonl", "--window", "5")
    assert ran.code == 0 and "24 completions in 12 rows" in ran.out
    assert run("score", "--model", "mine.py:long", "--data", "rows.jsonl", "--out", "mine.jsonl").code == 0
    assert json.loads((here / "mine.jsonl").read_text().splitlines()[3])["scores"] == [5.0, 1.0]


def test_an_evaluation_says_the_tie_policy_and_the_numbers(run, here, rows):
    ran = run("evaluate", "--model", "mine.py:long", "--data", "rows.jsonl", "--out", "numbers.json")
    assert ran.code == 0 and "a tie counts as a loss" in ran.out and "odd" in ran.out
    found = json.loads((here / "numbers.json").read_text())
    assert found["accuracy"]["mean"] == 1.0 and found["mrr"]["mean"] == 1.0 and found["orders"]["largest"] == 0.0


def test_a_suite_needs_no_data(run, rows):
    ran = run("evaluate", "--model", "mine.py:long", "--suite", "sums", "--suite-size", "8")
    assert ran.code == 0 and "8 prompts" in ran.out


@pytest.mark.parametrize("words, said", [
    (["evaluate", "--model", "mine.py:long", "--suite", "summs"], "did you mean sums"),
    (["evaluate", "--model", "mine.py:long"], "one of them"),
    (["score", "--model", "none", "--data", "rows.jsonl", "--out", "out.jsonl"], "a folder that exists"),
    (["score", "--model", "mine.py:long", "--data", "no.jsonl", "--out", "out.jsonl"], "--data"),
    (["score", "--model", "mine.py:long", "--data", "rows.jsonl", "--out", "out.csv"], "*.jsonl"),
    (["score", "--model", "mine.py:short", "--data", "rows.jsonl", "--out", "out.jsonl"], "did you mean long"),
    (["evaluate", "--model", "mine.py:long", "--data", "no.jsonl"], "--data"),
    (["evaluate", "--model", "http://127.0.0.1:9", "--data", "rows.jsonl"], "ConnectionRefused"),
    (["serve", "--model", "none"], "a folder that exists"),
    (["serve", "--model", "mine.py:long", "--host", "0.0.0.0", "--port", "0"], "set a token"),
    (["serve", "--model", "mine.py:long", "--token-file", "no"], "--token-file"),
    (["serve", "--model", "mine.py:long", "--body-mb", "0"], "body_bytes")])
def test_bad_input_is_one_line(run, rows, monkeypatch, words, said):
    monkeypatch.setattr("plaudit.specify.text.http.time.sleep", lambda s: None)
    ran = run(*words)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1


@pytest.mark.slow  # two processes that import torch and transformers
def test_a_server_answers_and_ends_when_told_with_what_it_had_accepted(here, rows):
    (here / "slow.py").write_text("import time\ndef long(completion_text):\n    time.sleep(0.5)\n"
                                  "    return float(len(completion_text))\n")
    server = subprocess.Popen([sys.executable, "-m", "plaudit.cli.main", "serve", "--model", "slow.py:long",
                               "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=here, env={**os.environ})
    assert server.stdout is not None
    line = server.stdout.readline()
    assert "serving long at http://127.0.0.1:" in line and "this machine only" in line
    url = line.split(" at ")[1].split(" ")[0]
    answers = []

    def ask() -> None:
        body = json.dumps({"prompt": "a", "completions": ["xyz"]}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/score", data=body), timeout=30) as said:
            answers.append(json.loads(said.read())["scores"])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    while json.loads(urllib.request.urlopen(f"{url}/health").read())["waiting"]["long"] < 2:
        pass
    server.send_signal(signal.SIGTERM)
    for t in threads:
        t.join()
    assert answers == [[3.0]] * 3 and server.wait(20) in (0, -signal.SIGTERM)


@pytest.mark.slow  # three processes that import torch and transformers
def test_scoring_that_was_killed_ends_in_the_same_bytes(here, rows):
    (here / "slow.py").write_text("import time\ndef long(completion_text):\n    time.sleep(0.05)\n"
                                  "    return float(len(completion_text))\n")
    words = [sys.executable, "-m", "plaudit.cli.main", "score", "--model", "slow.py:long", "--data", "rows.jsonl",
             "--window", "2", "--out"]
    subprocess.run([*words, "whole.jsonl"], cwd=here, check=True)
    running = subprocess.Popen([*words, "out.jsonl"], cwd=here)
    while not (here / "out.jsonl.place.json").exists():
        assert running.poll() is None
    running.kill()
    running.wait()
    again = subprocess.run([*words, "out.jsonl"], cwd=here, check=True, capture_output=True, text=True)
    assert "from an earlier run" in again.stdout
    assert (here / "out.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()


@pytest.fixture
def sums(here):
    """Pairs with a gold answer, and a function that reads it."""
    (here / "sums.jsonl").write_text("".join(json.dumps({
        "prompt": f"{i}+1?", "chosen": f"It is {i + 1}", "rejected": "It is 0", "answer": str(i + 1)}) + "\n"
        for i in range(6)))
    (here / "gold.py").write_text("def right(completion_text, answer):\n    return float(answer in completion_text)\n"
                                  "def boom(completion_text):\n    raise RuntimeError('planted')\n")


def test_a_gold_answer_reaches_the_function(run, here, sums):
    assert run("score", "--model", "gold.py:right", "--data", "sums.jsonl", "--out", "out.jsonl").code == 0
    assert [json.loads(x)["scores"] for x in (here / "out.jsonl").read_text().splitlines()] == [[1.0, 0.0]] * 6
    ran = run("evaluate", "--model", "gold.py:right", "--data", "sums.jsonl", "--out", "numbers.json")
    assert ran.code == 0 and json.loads((here / "numbers.json").read_text())["accuracy"]["mean"] == 1.0
    ran = run("evaluate", "--model", "gold.py:right", "--suite", "sums", "--suite-size", "8")
    assert ran.code == 0 and "8 prompts" in ran.out


def test_a_run_without_a_known_score_ends_with_the_reason(run, here, sums):
    ran = run("score", "--model", "gold.py:boom", "--data", "sums.jsonl", "--out", "out.jsonl")
    assert ran.code == 1 and "12 times" in ran.err and "planted" in ran.err and (here / "out.jsonl").exists()
    (here / "bare.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    ran = run("score", "--model", "gold.py:right", "--data", "bare.jsonl", "--out", "bare.out.jsonl")
    assert ran.code == 2 and "columns that the reward reads: answer" in ran.err and ran.err.count("\n") == 1


@pytest.fixture
def hanging(here):
    """A function that never answers to one text, ends its process at another, and is quick otherwise."""
    (here / "rows3.jsonl").write_text("".join(json.dumps({"prompt": "a", "completion": c}) + "\n"
                                              for c in ("hang", "bb", "exit", "c")))
    (here / "slow.py").write_text(
        "import os, time\nimport plaudit\nfrom plaudit.specify.text import text_reward\n\n"
        "def long(completion_text):\n    while completion_text == 'hang':\n        time.sleep(0.01)\n"
        "    if completion_text == 'exit':\n        os._exit(3)\n    return float(len(completion_text))\n\n"
        "@text_reward\ndef made(completion_text):\n    return long(completion_text)\n\n"
        "half = 0.5 * made\nshort = lambda completion_text: -float(len(completion_text))\n")


@pytest.mark.parametrize("name, pay", [("long", 1.0), ("made", 1.0), ("half", 0.5)])
def test_a_function_that_hangs_or_ends_its_process_costs_one_score(run, here, hanging, name, pay):
    ran = run("score", "--model", f"slow.py:{name}", "--data", "rows3.jsonl", "--out", "out.jsonl", "--time-limit", "1")
    assert ran.code == 0, ran.err
    found = [json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]
    assert [r["scores"] for r in found] == [[None], [2 * pay], [None], [pay]]
    assert "limit" in found[0]["scores_why"][0] and "died" in found[2]["scores_why"][0]


def test_a_function_that_no_worker_finds_is_called_here(run, here, hanging):
    assert run("score", "--model", "slow.py:short", "--data", "rows3.jsonl", "--out", "out.jsonl").code == 0
    assert json.loads((here / "out.jsonl").read_text().splitlines()[1])["scores"] == [-2.0]
    (here / "quick.py").write_text("import os\ndef here(completion_text):\n    return float(os.getpid())\n")
    for words, mine in (((), False), (("--time-limit", "0"), True)):
        assert run("score", "--model", "quick.py:here", "--data", "rows3.jsonl", "--out", "o.jsonl", "--fresh",
                   *words).code == 0
        assert (json.loads((here / "o.jsonl").read_text().splitlines()[0])["scores"] == [os.getpid()]) is mine
    ran = run("score", "--model", "quick.py:here", "--data", "rows3.jsonl", "--out", "p.jsonl", "--time-limit", "-1")
    assert ran.code == 2 and "--time-limit" in ran.err


def test_progress_is_told_without_a_terminal_also_while_nothing_gets_done(capsys):
    from plaudit.cli.models import Lines

    with Lines("scoring", first_s=0.02) as add:
        threading.Event().wait(0.1)
        add(5)
        threading.Event().wait(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("scoring: 0 rows in") and lines[-1].startswith("scoring: 5 rows in")
    assert len(lines) <= 5  # the pauses double
    with Lines("scoring"):
        pass
    assert capsys.readouterr().err == ""


def test_functions_of_verl_are_called_as_verl_does(run, here):
    (here / "verl.py").write_text("def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
                                  "    assert extra_info is None or extra_info['n'] == 1\n"
                                  "    return float(ground_truth in solution_str) + (data_source == 'gsm8k')\n")
    rows = [{"prompt": "1+1?", "completion": "It is 2", "answer": "2"},
            {"prompt": "1+1?", "completion": "It is 3", "reward_model": {"style": "rule", "ground_truth": "2"}},
            {"prompt": "1+1?", "completion": "It is 2", "ground_truth": "2", "data_source": "gsm8k",
             "extra_info": {"n": 1}}]
    expected = [1.0, 0.0, 2.0]
    for row, paid in zip(rows, expected, strict=True):
        (here / "one.jsonl").write_text(json.dumps(row) + "\n")
        ran = run("score", "--model", "verl.py:compute_score", "--data", "one.jsonl", "--out", "o.jsonl", "--fresh")
        assert ran.code == 0, ran.err
        assert json.loads((here / "o.jsonl").read_text())["scores"] == [paid]
