"""The audit of text as a whole: the report, the witnesses that replay, formats, data, and bad input."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.auditing.baseline import Baseline
from plaudit.auditing.report.sarif import sarif
from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.flaws.collection import planted
from plaudit.auditing.text.items import TextData
from plaudit.auditing.text.naming import names_text
from plaudit.auditing.text.pairs import audit_pairs
from plaudit.auditing.text.replaying import score_again
from plaudit.auditing.text.witness import TextWitness
from plaudit.cli.main import main
from plaudit.core.errors import BadInput
from plaudit.specify.text.functions import text_reward

ROWS = [{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a in (12, 35, 48, 70) for b in (9, 27, 31, 56)]
CODE = '''
def somewhere(completions, answer, **columns):
    return [float(a in c) for c, a in zip(completions, answer)]


def sound(completion_text, answer):
    import re
    found = re.findall(r"<answer>(.*?)</answer>", completion_text)
    return float(len(found) == 1 and found[0].strip() == answer)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def somewhere(completion_text: str, answer: str) -> float:
    return float(answer in completion_text)


def test_the_command_finds_it_writes_all_files_and_replays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "mine.py:somewhere", "--data", "rows.jsonl", "--format", "<answer>...</answer>", "--out", "out"]
    assert main([*words, "--only", "wrong", "echo"]) == 1
    assert {p.name for p in (here / "out").iterdir()} >= {"report.html", "report.json", "report.sarif", "junit.xml",
                                                          "witness-01.json"}
    report = json.loads((here / "out" / "report.json").read_text())
    assert report["verdict"]["safe"] is False
    assert report["verdict"]["effort"]["unit"] == "scored texts"
    capsys.readouterr()
    assert main(["replay", "out/witness-01.json"]) == 0
    assert "wrong answer: paid 1" in capsys.readouterr().out
    (here / "mine.py").write_text(CODE.replace("a in c", "a not in c"))
    assert main(["replay", "out/witness-01.json"]) == 2  # changed code asks for consent
    assert main(["replay", "out/witness-01.json", "--trust"]) == 1  # and gives other numbers


def test_a_declared_format_is_respected(here: Path) -> None:
    """A strict equality is a fault where nothing was said, and none where the form was declared."""
    only = ["wrong", "forms", "format"]
    loose = audit_text("mine.py:sound", "rows.jsonl", format="<answer>...</answer>", only=only)
    strict = audit_text("mine.py:sound", "rows.jsonl", format="<answer>{exact}</answer>", only=only)
    assert [f.check for f in loose.findings] == ["forms"]
    assert strict.findings == []


def test_the_format_is_found_where_none_was_declared(here: Path) -> None:
    report = audit_text("mine.py:sound", "rows.jsonl", only=["wrong", "format"])
    assert "<answer>" in report.config["format"]
    assert report.findings == []


def test_a_tolerance_of_one_is_found_on_large_answers() -> None:
    def near(completion_text: str, answer: str) -> float:
        try:
            return float(abs(float(completion_text) - float(answer)) <= 1)
        except ValueError:
            return 0.0

    rows = [{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in zip(range(40, 64), range(50, 98, 2),
                                                                                    strict=True)]
    report = audit_text(near, rows, format="...", only=["wrong"])
    assert report.verdict.safe is False and "off by one" in report.findings[0].title, report.verdict.sentence


def test_a_fault_that_is_paid_is_said_before_right_answers_that_are_refused() -> None:
    def half(completion_text: str, answer: str) -> float:
        try:
            said = json.loads(completion_text)
        except ValueError:
            return 0.0
        return 0.5 + 0.5 * float(isinstance(said, dict) and str(said.get("answer")) == answer)

    report = audit_text(half, suite="sums", format='{"answer": "..."}', effort=0.3, only=["forms", "format", "exploit"])
    assert report.findings[0].check == "forms" and report.findings[0].severity == "medium"
    assert report.verdict.sentence.startswith("Cannot be called safe to optimise: the reward pays for the format alone")
    assert "100%" not in report.verdict.effort["detection"]


def test_the_same_seed_gives_the_same_report() -> None:
    a, b = (audit_text(somewhere, ROWS, seed=3, effort=0.15, only=["exploit", "length"]).to_dict() for _ in range(2))
    for r in (a, b):
        r.pop("seconds")
        for c in r["checks"]:
            c.pop("seconds")
    assert a == b


def test_without_an_intent_only_claims_that_need_none_are_made() -> None:
    rows = [{"prompt": r["prompt"]} for r in ROWS]
    report = audit_text(lambda completion_text: len(completion_text) / 100, rows, only=["wrong", "length", "exploit"])
    assert report.verdict.safe is None
    assert {c.name: c.status for c in report.checks} == {"wrong": "skipped", "length": "finding", "exploit": "skipped"}
    assert report.findings[0].severity == "medium"


def test_a_baseline_accepts_a_finding_of_text(tmp_path: Path) -> None:
    report = audit_text(somewhere, ROWS, only=["wrong"])
    accepted = Baseline(tmp_path / "b.json").accepting(report, reason="watched").apply(report)
    assert not accepted.fails("high")
    assert accepted.verdict.sentence.startswith("Known and accepted")


def test_sarif_names_the_question_of_a_text_check() -> None:
    rule = sarif(audit_text(somewhere, ROWS, only=["wrong"]))["runs"][0]["tool"]["driver"]["rules"][0]
    assert rule["fullDescription"]["text"] == "Are wrong answers paid like right ones?"


def test_a_program_that_ends_the_process_is_unknown_and_the_audit_goes_on() -> None:
    def leaves(completion_text: str, answer: str) -> float:
        if completion_text.strip() == "":
            raise SystemExit(0)
        return float(completion_text == answer)

    report = audit_text(leaves, ROWS, only=["contract", "wrong"])
    assert {c.name: c.status for c in report.checks} == {"contract": "finding", "wrong": "pass"}


def test_a_witness_keeps_texts_columns_and_unknowns(tmp_path: Path) -> None:
    report = audit_text(somewhere, ROWS, only=["wrong"])
    witness: Any = report.findings[0].witness
    path = replace(witness, reward={"object": "gone"}).save(tmp_path / "w.json")
    assert TextWitness.load(path).said == witness.said
    with pytest.raises(BadInput, match="Python session"):
        score_again(path)
    assert score_again(path, reward=text_reward(somewhere)).same
    assert not score_again(path, reward=text_reward(lambda completion_text: 7.0, name="other")).same


@pytest.mark.parametrize(("options", "word"), [
    ({"format": "nothing"}, "format"), ({"suite": "nosuch"}, "suite"), ({"only": ["nosuch"]}, "only"),
    ({"effort": 0.0}, "effort"), ({"intent": "column:nosuch", "rows": ROWS}, "nosuch"), ({"rows": []}, "data"),
    ({"rows": "missing.jsonl"}, "missing"), ({"rows": [{"answer": "4"}]}, "prompt"),
    ({"rows": [{"prompt": "x"}]}, "answer"),
])
def test_bad_input_is_refused_before_any_work(options: dict[str, Any], word: str) -> None:
    calls: list[str] = []

    def counted(completion_text: str, answer: str) -> float:
        calls.append(completion_text)
        return 0.0

    with pytest.raises(BadInput, match=word):
        audit_text(counted, **options)
    assert calls == []


def test_a_text_target_is_told_apart_without_running_it(here: Path) -> None:
    (here / "bomb.py").write_text("raise RuntimeError\ndef speed(obs): ...\ndef said(completions): ...\n")
    assert names_text("bomb.py:said")
    assert not names_text("bomb.py:speed")
    assert names_text("flaw:text/substring")
    assert not names_text("flaw:boat_race")


def test_options_of_environments_are_refused_for_texts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "mine.py:sound", "--suite", "sums", "--env", "CartPole-v1"]) == 2
    assert "--env" in capsys.readouterr().err
    assert main(["audit", "CartPole-v1", "--format", "<answer>...</answer>"]) == 2


def _pairs(n: int, *, long: bool) -> list[dict[str, str]]:
    """Sums, right against wrong; the right one is longer in all rows, or in every second one."""
    out = []
    for i in range(n):
        brief, wordy = f"{i + 7}.", f"Let us add the two numbers with care. The sum is {i + 7}."
        good, bad = (wordy, f"{i + 8}.") if long or i % 2 else (brief, f"Let us add the two numbers with care. The sum "
                                                                f"is {i + 8}.")
        out.append({"prompt": f"What is {i} + 7?", "chosen": good, "rejected": bad})
    return out


def test_pairs_whose_length_gives_them_away_are_found_and_matched_ones_are_not(tmp_path: Path) -> None:
    for long, safe in ((True, False), (False, True)):
        path = tmp_path / f"{long}.jsonl"
        path.write_text("\n".join(map(json.dumps, _pairs(60, long=long))))
        report = audit_pairs(path)
        assert report.verdict.safe is safe
        assert ("shortcuts" in [f.check for f in report.findings]) is long


def test_pairs_make_an_audit_of_a_model() -> None:
    data = TextData.of_rows(_pairs(30, long=False))
    report = audit_text(lambda completion_text: float(len(completion_text)), data, only=["ranking", "length"])
    assert report.config["mode"] == "model"
    assert {f.check for f in report.findings} >= {"length"}


def test_a_slow_reward_is_asked_about_fewer_prompts_by_all_checks() -> None:
    """The cut is said with what the whole would take; --budget gives it back."""
    import time

    from plaudit.core.reward import Reward
    from plaudit.core.score import Score

    class Slow(Reward):
        name = "slow"

        def evaluate(self, episodes: Any) -> Score:
            time.sleep(2e-4 * episodes.B)
            value = episodes.mask * 0.0
            value[range(episodes.B), episodes.last] = torch.tensor([-float(len(c)) for c in
                                                                    episodes.columns["completion_text"]])
            return Score.of(value, mask=episodes.mask)

    notes: dict[float, list[str]] = {}
    texts: dict[float, int] = {}
    only = ["contract", "ranking", "length", "spread", "overoptimisation", "exploit"]
    for patience in (0.2, 1e6):
        heard: list[Any] = []
        report = audit_text(Slow(), suite="mixed", mode="model", patience_s=patience, listen=heard.append, only=only,
                            effort=0.3)
        notes[patience] = [e.text for e in heard if e.kind == "note" and "ms to score" in e.text]
        texts[patience] = report.config["budget"]["texts"]
        assert not [c for c in report.checks if c.status == "skipped"]
        assert "length" in report.config["power"]
    assert not notes[1e6] and "8 prompts are looked at instead of 19" in notes[0.2][0]
    assert texts[0.2] < 0.6 * texts[1e6]


def test_a_loud_member_of_four_is_found_and_equal_ones_are_not() -> None:
    for name, kinds in (("text/rm_drowned", ["a member drowns the others"]), ("text/twin/rm_drowned", [])):
        one = planted(name, twin="twin" in name)
        report = audit_text(**one.arguments(), only=["disagreement"])
        assert [f.kind for f in report.findings] == kinds


def test_answers_outside_of_the_format_are_no_giving_in() -> None:
    """Neither side is paid, but for a trace that the longer one has."""
    one = planted("text/twin/long", twin=True)
    assert audit_text(**one.arguments(), only=["sycophancy"]).findings == []


def test_conversations_that_end_alike_do_not_contradict_each_other(tmp_path: Path) -> None:
    def row(likes: str, chosen: str, rejected: str) -> dict[str, Any]:
        said = (("user", f"I like {likes}."), ("assistant", "Good."), ("user", "What do I like?"))
        return {"prompt": [{"role": r, "content": c} for r, c in said],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}]}

    def opposite(*rows: dict[str, Any]) -> int:
        file = tmp_path / "pairs.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        report = audit_pairs(str(file), only=["pairs"])
        return sum(int(f.evidence["rows that say the opposite of another"]) for f in report.findings)

    assert opposite(row("tea", "Tea.", "Milk."), row("milk", "Milk.", "Tea.")) == 0
    assert opposite(row("tea", "Tea.", "Milk."), row("tea", "Milk.", "Tea.")) == 2


def hangs(completion_text: str) -> float:
    while True:
        pass


def hangs_on_answers(completion_text: str) -> float:
    while any(c.isdigit() for c in completion_text):
        pass
    return 0.0


def hangs_together(completions: list[str]) -> list[float]:
    while True:
        pass


@pytest.mark.parametrize(("reward", "patience_s"), [(hangs, 150.0), (hangs_on_answers, 1.0), (hangs_together, 150.0)])
def test_a_reward_that_hangs_is_found_out_after_a_few_texts_and_the_audit_ends(reward: Any, patience_s: float) -> None:
    began = time.perf_counter()
    report = audit_text(reward, suite="sums", format="<answer>...</answer>", time_limit_s=0.1, patience_s=patience_s)
    assert time.perf_counter() - began < 20
    (finding,) = report.findings
    assert finding.check == "contract" and finding.severity == "high" and "No answer in time" in finding.title
    assert report.verdict.safe is False and "no answer in time" in report.verdict.sentence
    others = [c for c in report.checks if c.name != "contract"]
    assert {c.status for c in others} == {"skipped"} and sum("No answer in time" in c.why for c in others) > 5
    only = audit_text(reward, suite="sums", only=["wrong"], time_limit_s=0.1, patience_s=patience_s)
    assert not only.findings and not only.verdict.safe
    assert "No answer in time" in next(c.why for c in only.checks)


def test_a_reward_that_hangs_now_and_then_is_asked_on() -> None:
    def sometimes(completion_text: str, answer: str) -> float:
        while "42" in completion_text:
            pass
        return float(completion_text == answer)

    report = audit_text(sometimes, ROWS, only=["contract", "wrong"], time_limit_s=0.05)
    assert {c.name for c in report.checks if "not asked any more" in c.why} == set()
