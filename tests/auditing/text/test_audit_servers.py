"""Audits of rewards behind a URL: every kind of server, the token, and servers that fail."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.replaying import score_again
from plaudit.cli.main import main
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.serve.server import background
from plaudit.specify.text.functions import text_reward

SECRET = "a-token-of-the-test"
ROWS = [{"prompt": f"What is {a} + {b}?", "chosen": f"It is {a + b}.", "rejected": f"It is {a + b + 1}, I guess."}
        for a in (12, 35) for b in (9, 27, 31)]


def brief(completion_text: str) -> float:
    return -float(len(completion_text))


def whole(completion_text: str) -> float:
    """What a server of whole texts sees: the length of prompt and completion together."""
    return -float(len(completion_text)) - 1


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAUDIT_TOKEN", SECRET)
    return tmp_path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with background({"brief": text_reward(brief), "other": text_reward(whole)}, token=SECRET) as url:
        yield url


def audited(url: str, *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["audit", url, "--data", "pairs.jsonl", "--only", "contract", "ranking", "length", "--out", "out",
                 *more])
    return code, json.loads(Path("out/report.json").read_text())


@pytest.mark.parametrize("words", ["{}#brief", "{}/get_reward#brief", "{}#brief --kind openrlhf", "{}/rerank#brief",
                                   "{}/classify#brief"])
def test_every_kind_of_server_is_audited_as_the_reward_at_home(words: str, url: str, here: Path) -> None:
    _, far = audited(*words.format(url).split())
    home = audit_text(brief, "pairs.jsonl", mode="model", only=["contract", "ranking", "length"])
    assert [c["status"] for c in far["checks"]] == [c.status for c in home.checks] == ["pass"] * 3
    everything = "".join(p.read_text() for p in (here / "out").iterdir() if p.suffix in (".json", ".html", ".sarif"))
    assert SECRET not in everything


def test_a_witness_from_a_server_is_asked_again_with_consent(url: str, here: Path) -> None:
    (here / "pairs.jsonl").write_text("\n".join(json.dumps({**r, "chosen": r["rejected"], "rejected": r["chosen"]})
                                                for r in ROWS))
    code, found = audited(f"{url}/get_reward#brief")
    assert code == 1 and found["findings"][0]["check"] == "ranking"
    with pytest.raises(BadInput, match="consent to ask a server"):
        score_again("out/witness-01.json")
    assert score_again("out/witness-01.json", trust=True).same


def test_whole_texts_are_made_by_a_template(here: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def reads(completion_text: str) -> float:
        seen.append(completion_text)
        return -float(len(completion_text))

    talks = [{"prompt": [{"role": "user", "content": r["prompt"]}], "chosen": r["chosen"], "rejected": r["rejected"]}
             for r in ROWS]
    (here / "pairs.jsonl").write_text("\n".join(map(json.dumps, talks)))
    with background({"rm": text_reward(reads)}, token=SECRET) as url:
        assert main(["audit", f"{url}/get_reward", "--data", "pairs.jsonl"]) == 2
        assert "--tokenizer DIR" in capsys.readouterr().err
        audited(f"{url}/get_reward", "--tokenizer", str(tiny_llama))
    import transformers

    template = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    asked = [*talks[0]["prompt"], {"role": "assistant", "content": talks[0]["chosen"]}]
    assert template.apply_chat_template(asked, tokenize=False) in seen


@pytest.mark.parametrize(("target", "said"), [
    ("http://127.0.0.1:9", "nobody listens there"),
    ("{}/nothing", "status 404"),
    ("{}#nobody", "no model 'nobody'"),
    ("http://127.0.0.1:99999", "a port in"),
])
def test_a_server_that_does_not_answer_is_an_error_before_any_work(target: str, said: str, url: str, here: Path,
                                                                   capsys: pytest.CaptureFixture[str],
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda s: None)
    assert main(["audit", target.format(url), "--out", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not (here / "out").exists()


def test_a_wrong_token_says_where_the_right_one_belongs(url: str, here: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["audit", f"{url}#brief"], ["evaluate", "--model", f"{url}#brief", "--data", "pairs.jsonl"],
                  ["score", "--model", f"{url}#brief", "--data", "pairs.jsonl", "--out", "s.jsonl"]):
        monkeypatch.setenv("PLAUDIT_TOKEN", SECRET)
        assert main([*words, *(["--data", "pairs.jsonl", "--only", "contract"] if words[0] == "audit" else [])]) == 0
        monkeypatch.setenv("PLAUDIT_TOKEN", "wrong")
        assert main(words) == 2
        assert "variable PLAUDIT_TOKEN" in capsys.readouterr().err


def test_options_of_servers_are_refused_elsewhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["audit", "mine.py:brief"], ["score", "--model", "mine.py:brief", "--out", "o.jsonl"]):
        assert main([*words, "--data", "pairs.jsonl", "--kind", "vllm"]) == 2
        assert "--kind: expected none" in capsys.readouterr().err


class Dies(Reward):
    """A server that goes away after so many texts."""

    name = "dies"

    def __init__(self, after: int) -> None:
        self.left = after

    def evaluate(self, episodes: Any) -> Score:
        self.left -= episodes.B
        value = [math.nan if self.left < 0 else -float(len(c)) for c in episodes.columns["completion_text"]]
        import torch

        at = torch.zeros(episodes.mask.shape)
        at[torch.arange(episodes.B), episodes.last] = torch.tensor(value)
        why = {"nobody answers any more": torch.isnan(at)} if self.left < 0 else {}
        return Score.of(at, mask=episodes.mask, why=why)


def test_a_server_that_dies_is_no_finding_and_no_all_clear() -> None:
    report = audit_text(Dies(120), ROWS, only=["contract", "ranking", "length", "markdown"])
    assert report.verdict.safe is None and "got no number (nobody answers any more)" in report.verdict.sentence
    assert not [f for f in report.findings if f.check == "ranking"]
    assert audit_text(Dies(10**6), ROWS, only=["contract", "ranking"]).findings == []
