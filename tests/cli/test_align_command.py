"""`plaudit optimize align` on a tiny language model: files of pairs, verdicts and prompts; errors are one line."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

OPTIONS = ["optimize", "align", "--max-tokens", "5", "--lr", "0.01", "--prompts", "2"]


@pytest.fixture
def files(here, tiny_llama):
    """Pairs in which the shorter answer is better, the same as verdicts, and prompts."""
    pairs = [{"prompt": f"{i}?", "chosen": "b", "rejected": "a" * 9} for i in range(4)]
    made = {"pairs": pairs, "prompts": [{"prompt": r["prompt"]} for r in pairs],
            "verdicts": [{"prompt": r["prompt"], "completion": r[k], "label": k == "chosen"}
                         for r in pairs for k in ("chosen", "rejected")],
            "bad": [*pairs, {"prompt": "5?", "chosen": "", "rejected": "b"}]}
    for name, rows in made.items():
        (here / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (here / "mine.py").write_text("def short(completion_text):\n    return -float(len(completion_text))\n")
    return ["--policy", str(tiny_llama)]


def test_pairs_give_a_checkpoint_that_everybody_loads(run, here, files, tiny_llama):
    import torch
    import transformers

    from plaudit.optimize.align import CausalPolicy, read_given

    ran = run(*OPTIONS, *files, "--data", "pairs.jsonl", "--algo", "dpo", "--steps", "6", "--out", "out")
    assert ran.code == 0, ran.err
    assert "4 pairs of 4 rows and 4 prompts; 4 completions cut" in ran.out and "kl: " in ran.out
    summary = json.loads((here / "out" / "summary.json").read_text())
    history = [json.loads(line) for line in (here / "out" / "history.jsonl").read_text().splitlines()]
    assert len(history) == 6 == summary["steps"] and summary["curves"]["loss"]["last"] < 0.6
    assert history[0]["reward"] is None and not (here / "out" / "run").exists()
    model = transformers.AutoModelForCausalLM.from_pretrained("out")
    transformers.AutoTokenizer.from_pretrained("out")
    after, before = CausalPolicy.load("out", max_tokens=5), CausalPolicy.load(tiny_llama, max_tokens=5)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before.module.parameters(), strict=True))
    tokens = read_given(after, "pairs.jsonl").evidence.tokens
    with torch.no_grad():
        gap = [float((p.log_probs(tokens).sum(-1) * torch.tensor([1.0, -1.0] * 4)).sum()) for p in (before, after)]
    assert gap[1] > gap[0] + 1
    again = [*OPTIONS, *files, "--data", "pairs.jsonl", "--algo", "dpo", "--steps", "6", "--out", "out"]
    assert "--resume" in run(*again).err and "finished before" in run(*again, "--resume").out
    assert "that of the same run" in run(*again, "--resume", "--seed", "1").err


@pytest.mark.slow(reason="three runs of a language model")
@pytest.mark.parametrize("words", [["--algo", "kto", "--data", "verdicts.jsonl", "--lora"],
                                   ["--algo", "rft", "--data", "prompts.jsonl", "--reward", "mine.py:short"],
                                   ["--algo", "kto", "--own-samples", "--data", "pairs.jsonl", "--reward",
                                    "mine.py:short", "--gold", "mine.py:short"]])
def test_other_evidence_is_learnt_from_too(run, here, files, words):
    import transformers

    ran = run(*OPTIONS, *files, *words, "--steps", "2", "--samples", "3", "--out", "out")
    assert ran.code == 0, ran.err
    assert f"aligned by {words[1]} in 2 steps" in ran.out
    transformers.AutoModelForCausalLM.from_pretrained("out")


def test_ctrl_c_before_the_first_checkpoint_promises_nothing(run, here, files, monkeypatch):
    def rings(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("plaudit.optimize.align.align")._Run, "step", rings)
    ran = run(*OPTIONS, *files, "--data", "verdicts.jsonl", "--algo", "kto", "--out", "out")
    assert ran.code == 130 and ran.err.endswith("interrupted; no checkpoint was written\n")


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(run, here, files, monkeypatch):
    words = [*OPTIONS, *files, "--data", "verdicts.jsonl", "--algo", "kto", "--steps", "4"]
    assert run(*words, "--out", "whole").code == 0
    align_module = sys.modules["plaudit.optimize.align.align"]
    step = align_module._Run.step

    def dies(self):
        if self.done == 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(align_module._Run, "step", dies)
    ran = run(*words, "--out", "cut")
    assert ran.code == 130 and "the same command with --resume goes on from" in ran.err
    assert not (here / "cut" / "config.json").exists()
    ran = run(*words, "--out", "cut", "--resume")
    assert ran.code == 130 and "the same command goes on from" in ran.err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run(*words, "--out", "cut", "--resume").code == 0
    for name in ("model.safetensors", "history.jsonl"):
        assert (here / "whole" / name).read_bytes() == (here / "cut" / name).read_bytes(), name


@pytest.mark.parametrize("words, said", [
    (["--data", "no.jsonl"], "--data: expected a file"),
    (["--data", "bad.jsonl"], "row 4: empty"),
    (["--data", "prompts.jsonl"], "columns of one of"),
    (["--data", "prompts.jsonl", "--algo", "rft"], "--reward: expected a reward"),
    (["--data", "verdicts.jsonl", "--algo", "dpo"], "single verdicts; --algo kto"),
    (["--data", "pairs.jsonl", "--algo", "rloo", "--own-samples"], "--own-samples"),
    (["--data", "pairs.jsonl", "--config", '{"lr": 1}'], "a place of their own"),
    (["--data", "pairs.jsonl", "--config", '{"cilp": 1}'], "received cilp; did you mean clip?"),
    (["--data", "pairs.jsonl", "--beta", "-1"], "config.beta"),
    (["--data", "pairs.jsonl", "--out", "."], "--out: expected a new or empty folder"),
    (["--data", "pairs.jsonl", "--resume"], "--out: expected the folder of the run to go on with, received out, which"),
    (["--data", "pairs.jsonl", "--policy", "none"], "--policy: expected a folder that exists"),
    (["--data", "pairs.jsonl", "--reward", "mine.py:shrt"], "did you mean short")])
def test_bad_input_is_one_line_before_any_work(run, here, files, words, said):
    ran = run(*OPTIONS, *files, *(["--out", "out"] if "--out" not in words else []), *words)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1, ran.err
    assert not (here / "out").exists()


def test_help_has_an_example(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run("optimize", "align", "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ended.value.code == 0 and "plaudit optimize align --policy smollm2 --algo dpo" in said


def test_columns_of_the_data_reach_the_reward(run, here, files):
    (here / "sums.jsonl").write_text("".join(json.dumps({"prompt": f"{i}+1?", "answer": str(i + 1)}) + "\n"
                                             for i in range(4)))
    (here / "gold.py").write_text("def right(prompt_text, completion_text, answer):\n"
                                  "    return float(prompt_text == f'{int(answer) - 1}+1?') + len(completion_text)\n"
                                  "def boom(completion_text):\n    raise RuntimeError('planted')\n")
    words = [*OPTIONS, *files, "--algo", "rloo", "--steps", "2", "--samples", "2"]
    ran = run(*words, "--data", "sums.jsonl", "--reward", "gold.py:right", "--out", "out")
    assert ran.code == 0, ran.err
    history = [json.loads(line) for line in (here / "out" / "history.jsonl").read_text().splitlines()]
    assert all(row["reward"] >= 1 and row["unknown"] == row["skipped"] == 0 for row in history)
    ran = run(*words, "--data", "prompts.jsonl", "--reward", "gold.py:right", "--out", "no")
    assert ran.code == 2 and "line 1: expected the columns that the reward reads: answer" in ran.err
    assert not (here / "no").exists()
    ran = run(*words, "--data", "sums.jsonl", "--reward", "gold.py:boom", "--out", "boom")
    assert ran.code == 2 and "planted" in ran.err and "2 steps in a row" in ran.err and "aligned" not in ran.out
    assert not (here / "boom" / "config.json").exists()


def test_where_nobody_was_asked_nothing_is_unknown(run, here, files):
    ran = run(*OPTIONS, *files, "--data", "pairs.jsonl", "--algo", "dpo", "--steps", "2", "--out", "out")
    assert ran.code == 0 and "kl:" in ran.out and "unknown" not in ran.out
    assert json.loads((here / "out" / "history.jsonl").read_text().splitlines()[0])["unknown"] is None
