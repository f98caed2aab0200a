"""A saved model in TRL, RewardBench, vLLM and older transformers: the same scores."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.learn.text.elsewhere import THETA, made, talks

from plaudit.core.tokens import of_texts
from plaudit.learn.text.models import tiny_llama
from plaudit.learn.text.older import older_tokenizer, rewrite, with_older_words
from plaudit.learn.text.reward import TextReward
from plaudit.serve.server import background
from plaudit.specify.text.remote import RemoteReward

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "loads_elsewhere_golden.json").read_text())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    return made(tiny_llama(folder / "base", hidden=32), folder / "saved")


def ours(folder: Path) -> np.ndarray:
    reward = TextReward.load(folder)
    sides = [reward.score_texts([t[s][:-1] for t in talks()], [t[s][-1:] for t in talks()]) for s in
             ("chosen", "rejected")]
    return torch.stack(sides, 1).double().numpy()


def test_rewardbench_paid_what_we_pay(saved: Path) -> None:
    """RewardBench is held to transformers 4.51, which is older than the files of transformers 5."""
    scores = ours(saved)
    assert scores.std() > 0.3  # the model tells texts apart
    assert np.abs(scores - GOLDEN["scores"]).max() < 1e-5
    assert GOLDEN["provenance"]["transformers"].startswith("4.51")


@pytest.mark.slow(reason="starts a process that imports torch and rewardbench")
@pytest.mark.skipif("PLAUDIT_REWARDBENCH" not in os.environ, reason="no environment with rewardbench")
def test_rewardbench_pays_what_we_pay(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, talks())))
    subprocess.run([os.environ["PLAUDIT_REWARDBENCH"], str(HERE / "elsewhere.py"), str(saved),
                    str(tmp_path / "pairs.jsonl"), str(tmp_path / "out.json")], check=True, cwd=tmp_path,
                   env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}, capture_output=True)
    assert np.abs(ours(saved) - json.loads((tmp_path / "out.json").read_text())["scores"]).max() < 1e-5


@pytest.mark.slow(reason="imports trl")
def test_trls_reward_trainer_reads_the_same_scores(saved: Path, tmp_path: Path) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    options = trl.RewardConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False,
                               per_device_eval_batch_size=12, disable_dropout=True)
    rows = datasets.Dataset.from_list(talks())
    trainer = trl.RewardTrainer(model=str(saved), args=options, train_dataset=rows, eval_dataset=rows)
    (batch,) = trainer.get_eval_dataloader()
    with torch.no_grad():
        said = trainer.model.float().eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    theirs = said[:, 0].view(2, -1).T.double().numpy()  # chosen first, then rejected
    assert np.abs(np.sort(theirs, 0) - np.sort(ours(saved), 0)).max() < 1e-5


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 32, the least that vLLM's attention takes on a CPU."""
    folder = tmp_path_factory.mktemp("wide")
    return made(tiny_llama(folder / "base", hidden=128), folder / "saved")


def test_vllm_paid_what_we_pay(wide: Path) -> None:
    scores = ours(wide)
    assert scores.std() > 0.3
    assert np.abs(scores - GOLDEN["vllm"]["scores"]).max() < 5e-5
    assert [f.name for f in wide.glob("*.safetensors")] == ["model.safetensors"]  # it loads whatever lies there


def test_our_server_answers_as_vllm_did(wide: Path) -> None:
    """It answered the score itself, unasked."""
    with background({"saved": TextReward.load(wide)}) as url:
        for talk, (chosen, _) in zip(talks()[:3], GOLDEN["vllm"]["scores"], strict=False):
            body = json.dumps({"model": "saved", "messages": talk["chosen"]}).encode()
            asked = urllib.request.Request(url + "/classify", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked) as answer:
                assert abs(json.load(answer)["data"][0]["probs"][0] - chosen) < 5e-5


def lives(url: str, *, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
        time.sleep(1)
    return False


@pytest.mark.slow(reason="starts vLLM's server")
@pytest.mark.skipif("PLAUDIT_VLLM" not in os.environ, reason="no environment with vLLM")
@pytest.mark.parametrize("path", ["", "/pooling"])
def test_vllms_server_pays_what_we_pay(wide: Path, path: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [os.environ["PLAUDIT_VLLM"], str(HERE / "vllm_scores.py"), str(wide), str(port)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, stdout=log, stderr=log) as server:
        try:
            assert lives(f"http://127.0.0.1:{port}/health", within_s=400), (tmp_path / "log").read_text()[-2000:]
            remote = RemoteReward(f"http://127.0.0.1:{port}{path}", kind="vllm", model="saved")
            asked = [of_texts([t[s][:-1] for t in talks()], [t[s][-1:] for t in talks()]) for s in
                     ("chosen", "rejected")]
            theirs = torch.stack([remote.score(one).returns()[0] for one in asked], 1).double().numpy()
        finally:
            server.terminate()
    assert np.abs(theirs - ours(wide)).max() < 5e-5


def test_the_files_are_what_vllm_asks_for(saved: Path) -> None:
    asked = json.loads((HERE / "vllm_requirements.json").read_text())
    config = json.loads((saved / "config.json").read_text())
    (architecture,) = config["architectures"]
    assert architecture.endswith(asked["architecture_ends_with"]) and architecture in asked["architectures_listed"]
    assert len(config["id2label"]) == asked["num_labels"]
    assert config["problem_type"] == asked["problem_type_of_raw_scores"]
    assert not set(asked["forbidden"]) & set(config)
    with safe_open(saved / "model.safetensors", framework="pt") as weights:
        assert weights.get_slice(asked["head"]["key"]).get_shape() == [1, config["hidden_size"]]
        assert "score.bias" not in weights.keys()


def test_older_words_say_the_same_and_newer_readers_are_not_confused(saved: Path) -> None:
    import transformers

    config = json.loads((saved / "config.json").read_text())
    assert config["rope_theta"] == THETA == config["rope_parameters"]["rope_theta"] and config["torch_dtype"]
    tokenizer = json.loads((saved / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    again = transformers.AutoConfig.from_pretrained(saved)
    assert again.rope_parameters == config["rope_parameters"]


@pytest.mark.parametrize("rope", [
    {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 1024},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
])
def test_scaled_positions_come_back_from_older_words(rope: dict[str, float], tmp_path: Path) -> None:
    import transformers

    one = transformers.LlamaConfig(rope_parameters=rope, max_position_embeddings=8192)
    one.save_pretrained(tmp_path)
    rewrite(tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["rope_theta"] == rope["rope_theta"] and "rope_theta" not in kept["rope_scaling"]
    assert transformers.AutoConfig.from_pretrained(tmp_path).rope_parameters == one.rope_parameters


def test_layers_with_positions_of_their_own_have_both_bases() -> None:
    rope = {"full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    said = with_older_words({"text_config": {"rope_parameters": rope}})["text_config"]
    assert (said["rope_theta"], said["rope_local_base_freq"]) == (1e6, 1e4)
    assert older_tokenizer({"extra_special_tokens": ["<a>"]}) == {"additional_special_tokens": ["<a>"]}


if __name__ == "__main__":  # writes the golden file with the Python of RewardBench's environment
    base = Path(sys.argv[2])
    made(tiny_llama(base / "base", hidden=32), base / "saved")
    (base / "pairs.jsonl").write_text("\n".join(map(json.dumps, talks())))
    subprocess.run([sys.argv[1], str(HERE / "elsewhere.py"), str(base / "saved"), str(base / "pairs.jsonl"),
                    str(HERE / "loads_elsewhere_golden.json")], check=True, cwd=base)
