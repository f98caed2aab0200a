"""Files as people have them: with a mark at the beginning, in another encoding."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from plaudit.auditing.text.items import read_rows
from plaudit.core.errors import BadInput
from plaudit.feedback.text.sources import rows_of

ROWS = [{"prompt": "Wie heißt du?", "chosen": "a", "rejected": "b"}, {"prompt": "c", "chosen": "d", "rejected": "e"}]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.ndjson"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    text = json.dumps(ROWS) if name.endswith(".json") else "\r\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS)
    data = text.encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert [row for _, row in rows_of(tmp_path / name)] == ROWS
    if not name.endswith((".gz", ".ndjson")):
        assert read_rows(tmp_path / name) == ROWS


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    lines = [json.dumps(r, ensure_ascii=False) for r in reversed(ROWS)]
    (tmp_path / "rows.jsonl").write_bytes("\n".join(lines).encode("latin1"))
    with pytest.raises(BadInput, match="line 2: expected text in UTF-8, received the byte 0xdf at 19; .*iconv"):
        list(rows_of(tmp_path / "rows.jsonl"))
