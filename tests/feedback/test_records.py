from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Fragment, Preference, read_records, write_records

PAIR = (Fragment(0, 0, 5), Fragment(1, 2, 5))


def test_records_survive_a_file_whatever_they_compare(tmp_path: Path) -> None:
    said = [Preference(options=PAIR, label=0.7, margin=2.0, weight=0.5, provenance={"level": 1}),
            Preference(options=("über", "ß\n"), label=None, context="say it", annotator="ann"),
            Preference(options=("a", "b"), label=0.5, tie=True)]
    assert list(read_records(write_records(tmp_path / "said.jsonl", said))) == said


@pytest.mark.parametrize("wrong, names", [
    ({"label": 1.5}, "label"), ({"label": float("nan")}, "label"), ({"label": 1.0, "margin": -1.0}, "margin"),
    ({"label": 1.0, "weight": float("inf")}, "weight"), ({"label": 0.9, "tie": True}, "label"),
    ({"label": 1.0, "options": ("a", PAIR[0])}, "options")])
def test_what_is_no_preference_is_refused(wrong: dict[str, Any], names: str) -> None:
    with pytest.raises(BadInput, match=names):
        Preference(**{"options": PAIR, **wrong})


@pytest.mark.parametrize("line", ["{", "[]", '{"options": ["a", "b"]}', '{"options": ["a", "b"], "label": 2}',
                                  '{"options": ["a", "b"], "label": 1, "smell": 3}',
                                  '{"options": [{"row": -1, "start": 0, "length": 1}, "b"], "label": 1}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "said.jsonl"
    file.write_text('{"options": ["a", "b"], "label": 1}\n\n' + line + "\n")
    with pytest.raises(BadInput, match="line 3"):
        list(read_records(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        list(read_records(tmp_path / "nowhere.jsonl"))
