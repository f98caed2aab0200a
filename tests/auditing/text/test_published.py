"""Rewards in the styles that people publish: what the audit says of them has to be true, and of use."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.items import TextData
from plaudit.auditing.text.subject import check_columns, recognise
from plaudit.core.errors import BadInput

SUMS = [(f"What is {a} + {b}?", a + b) for a in (112, 235, 348, 470) for b in (19, 27, 35)]
GSM = [{"question": q, "answer": f"We add.\n#### {x}"} for q, x in SUMS]


def strict(completions, answer, **kwargs):
    """GSM8K: the number behind ####."""
    def number(text):
        found = re.search(r"#### (\-?[0-9\.\,]+)", text)
        return found.group(1).replace(",", "") if found else None

    return [float((n := number(c)) is not None and n == number(a)) for c, a in zip(completions, answer, strict=True)]


def form_only(completions, **kwargs):
    """Of the tutorials: a pattern without DOTALL, so that only one line of thought is paid."""
    pattern = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 * bool(re.match(pattern, c)) for c in completions]


def boxed(data_source, solution_str, ground_truth, extra_info=None):
    """A `compute_score` of verl."""
    found = re.findall(r"\\boxed\{([^}]*)\}", solution_str)
    return float(bool(found) and found[-1].strip() == ground_truth)


def fenced(completions, tests, **kwargs):
    """Runs what stands in a fence of Python against its tests; only what prints the last word has passed."""
    out = []
    for text, asserts in zip(completions, tests, strict=True):
        block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        program = f"{block.group(1)}\n" + "\n".join(asserts) + "\nprint('passed')" if block else "raise SystemExit(1)"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", program.replace("\0", "")], capture_output=True,
                              check=False, timeout=20)
        out.append(float(done.stdout.strip().endswith(b"passed")))
    return out


def test_a_refused_form_stands_in_the_title_as_it_was_written() -> None:
    report = audit_text(strict, GSM, only=["forms"])
    title = report.findings[0].title
    refused, paid = re.findall(r"'(####[^']*)' earns", title)
    said = report.findings[0].witness.said
    assert (refused, paid) == (said[0].completion, said[1].completion)
    assert (said[0].paid, said[1].paid) == (0.0, 1.0)
    assert "--format '#### {exact}'" in report.findings[0].advice


def test_a_backslash_is_shown_once() -> None:
    rows = [{"prompt": q, "data_source": "sums", "reward_model": {"style": "rule", "ground_truth": str(x)}}
            for q, x in SUMS]
    report = audit_text(boxed, rows, only=["forms"])
    assert report.intent == "column:ground_truth"  # verl keeps it inside of `reward_model`
    assert r"'\boxed{" in report.findings[0].title and "\\\\" not in report.findings[0].title


@pytest.mark.parametrize("data", [{"suite": "sums"}, {"rows": GSM}], ids=["a suite", "rows with an answer"])
def test_a_function_of_verl_is_audited_on_data_that_say_less(data: dict) -> None:
    def plain(data_source, solution_str, ground_truth, extra_info):
        return float(solution_str.strip() == ground_truth)

    report = audit_text(plain, **data, format="{exact}", only=["wrong"])
    assert [(c.name, c.status) for c in report.checks if c.name == "wrong"] == [("wrong", "pass")]
    with pytest.raises(BadInput, match="ground_truth"):
        audit_text(plain, [{"prompt": "2 + 2?"}] * 9, only=["wrong"])


def test_a_reward_of_the_form_is_told_that_it_is_a_part() -> None:
    report = audit_text(form_only, GSM, only=["wrong", "spread"])
    finding, = report.findings
    assert finding.check == "wrong" and "their sum" in finding.advice
    assert "their sum" not in audit_text(lambda completions, answer: [float(a.split()[-1] in c) for c, a in zip(
        completions, answer, strict=True)], GSM, only=["wrong"]).findings[0].advice


def test_that_nothing_is_paid_names_the_format_where_none_was_declared() -> None:
    def unpaid(completion_text):
        return float(completion_text.startswith("%%"))

    assert "--format" in audit_text(unpaid, GSM, only=["spread"]).findings[0].title
    assert "--format" not in audit_text(unpaid, GSM, only=["spread"], format="Answer: ...").findings[0].title


@pytest.mark.slow  # runs programs
def test_programs_are_written_in_the_fence_that_is_paid_and_their_column_is_found() -> None:
    rows = [{"prompt": f"Write a function plus{n}(x).", "tests": [f"assert plus{n}(1) == {n + 1}"],
             "canonical_solution": f"def plus{n}(x):\n    return x + {n}"} for n in range(4)]
    report = audit_text(fenced, rows, only=["wrong", "spread", "code"])
    assert report.context.format.text == "```python\n...\n```"
    assert report.context.levels.full == 1.0 and report.context.levels.zero == 0.0
    assert {c.name: c.status for c in report.checks} == {"wrong": "pass", "spread": "pass", "code": "finding"}
    assert "a value that equals everything" in report.findings[0].title


def test_rows_of_programs_know_their_solution_and_a_program_that_fails() -> None:
    rows = [{"prompt": "Write add(a, b).", "test_list": ["assert add(1, 2) == 3"], "code": "def add(a, b): return a+b"}]
    report = audit_text(lambda completions, test_list: [float("a+b" in c) for c in completions], rows * 4,
                        only=["wrong"])
    item = report.context.items[0]
    assert report.context.right(item) == rows[0]["code"]
    assert "def add(" in report.context.wrongs(item)[0].text
    assert report.checks[0].status == "pass"


def test_what_passed_says_what_it_saw() -> None:
    """A tick beside a question ("Are wrong answers paid?") reads as a yes."""
    report = audit_text(strict, GSM, effort=0.2)
    passed = [c for c in report.checks if c.status == "pass"]
    assert len(passed) > 8
    assert all(re.search(r"\d", c.why) and "?" not in c.why for c in passed), [c.why for c in passed]
    models = audit_text(lambda prompt, completion: float(len(completion)), suite="sums", mode="model", effort=0.1)
    assert all(re.search(r"\d", c.why) and "?" not in c.why for c in models.checks if c.status == "pass")


def test_few_rows_are_not_called_fewer_than_asked_for() -> None:
    """Eight prompts are all that there are: a slow reward shortens the search, and leaves none of them out."""
    import time

    notes: list[str] = []

    def slow(completion_text, answer):
        time.sleep(0.004)
        return float(answer.split()[-1] in completion_text)

    audit_text(slow, GSM[:8], only=["spread"], patience_s=8.0,
               listen=lambda e: notes.append(e.text) if e.kind == "note" else None)
    said = next(n for n in notes if "ms to score" in n)
    assert "the search is" in said and "8 prompts are looked at instead of 24" not in said


def test_a_lacking_column_is_named_with_what_to_do(tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "2 + 2?", "expected_answer": "4"}))
    data = TextData.load(tmp_path / "rows.jsonl")
    assert data.items[0].gold == "4"
    with pytest.raises(BadInput, match="rename"):
        check_columns(recognise(lambda completion, answer: 1.0), data)
