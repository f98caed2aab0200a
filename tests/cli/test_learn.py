from __future__ import annotations

import json

import pytest

from plaudit.cli.main import main


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"Say thing {i}.", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(12)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_model_is_fitted_and_its_measures_are_printed(rows, tiny_llama, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["learn", "text", "--model", str(tiny_llama), "--data", str(rows), "--out", str(out), "--frozen",
             "--validation", "0.25", "--epochs", "2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"saved in {out}" in said and "held out: accuracy" in said
    assert {"model.safetensors", "plaudit.json", "card.json", "README.md"} <= {f.name for f in out.iterdir()}


@pytest.mark.parametrize(("step", "says"), [(1, "no checkpoint was written"), (6, "goes on from the last checkpoint")])
def test_ctrl_c_says_whether_there_is_a_checkpoint(rows, tiny_llama, tmp_path, capsys, monkeypatch, step, says):
    def rings(self, at, steps, logged):
        if at == step:
            raise KeyboardInterrupt

    monkeypatch.setattr("plaudit.cli.learn._Bar.__call__", rings)
    words = ["learn", "text", "--model", str(tiny_llama), "--data", str(rows), "--out", str(tmp_path / "out"),
             "--frozen", "--validation", "0.25", "--epochs", "8"]
    assert main(words) == 130
    said = capsys.readouterr().err
    assert "interrupted; " in said and says in said and "nothing was written" not in said
    assert any((tmp_path / "out").rglob("checkpoint-*")) == (step == 6)


@pytest.mark.parametrize(("options", "message"), [
    (["--loss", "bradley-tery"], "did you mean bradley-terry?"), (["--model", "/no/such/model"], "model: expected"),
    (["--data", "/no/such/file.jsonl"], "/no/such/file.jsonl"), (["--weights", "{"], "--weights: expected JSON"),
    (["--lora", "--frozen"], "not both"), (["--threads", "0"], "--threads"), (["--loss", "regression"], "ratings"),
    (["--arguments", '{"nonsense": 1}'], "TrainingArguments"),
])
def test_what_is_wrong_is_one_line_before_any_work(options, message, rows, tiny_llama, tmp_path, capsys):
    usual = {"--model": str(tiny_llama), "--data": str(rows), "--out": str(tmp_path / "out")}
    words = ["learn", "text", *(w for k, v in usual.items() if k not in options for w in (k, v)), *options]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said and said.count("\n") == 1
    assert not (tmp_path / "out" / "plaudit.json").exists()


def test_an_empty_file_is_named(run, here, tiny_llama):
    (here / "none.jsonl").write_text("")
    ran = run("learn", "text", "--model", str(tiny_llama), "--data", "none.jsonl", "--out", "out")
    assert ran.code == 2 and "--data: expected at least one row, received none.jsonl" in ran.err


def test_faulty_rows_stop_it_or_are_left_out_and_counted(rows, tiny_llama, tmp_path, capsys):
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "Same.", "chosen": "x", "rejected": "x"}) + "\n")
    words = ["learn", "text", "--model", str(tiny_llama), "--data", str(rows), "--out", str(tmp_path / "out"),
             "--frozen", "--validation", "0.25"]
    assert main(words) == 2
    assert "row 12: identical" in capsys.readouterr().err
    assert main([*words, "--skip-faulty"]) == 0
    assert "left out 1 of 13 rows" in capsys.readouterr().err


def test_labels_are_cleaned_and_the_strengths_written(rows, tiny_llama, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["learn", "text", "--model", str(tiny_llama), "--data", str(rows), "--out", str(out), "--frozen",
             "--denoise.flip", "0.25", "--denoise.smooth", "0.1", "--cross-fit.folds", "3", "--cross-fit.members", "2"]
    assert main(words) == 0
    assert "the weakest first" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "strengths.jsonl").read_text().splitlines()]
    assert [line["did"] for line in lines].count("flipped") == len(lines) // 4
    assert [line["mu"] for line in lines] == sorted(line["mu"] for line in lines)


def test_samples_of_the_policy_are_read_and_one_of_a_prompt_is_refused(rows, tiny_llama, tmp_path, capsys):
    file = tmp_path / "samples.jsonl"
    words = ["learn", "text", "--model", str(tiny_llama), "--data", str(rows), "--meta", str(file),
             "--meta-step", "0.01"]
    several = [{"prompt": "Say.", "completion": "good 1"}, {"prompt": "Say.", "completion": "bad 2"},
               {"prompt": "x", "samples": ["a", "b"]}]
    file.write_text("".join(json.dumps(line) + "\n" for line in several))
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    file.write_text(json.dumps({"prompt": "Say.", "samples": ["alone"]}) + "\n")
    assert main([*words, "--out", str(tmp_path / "b")]) == 2
    assert "at least 2 samples of a prompt" in capsys.readouterr().err
    file.write_text(json.dumps({"text": "?"}) + "\n")
    assert main([*words, "--out", str(tmp_path / "c")]) == 2
    assert "rows with prompt and samples" in capsys.readouterr().err
