"""Where rows come from and go to: JSONL, JSON, Parquet, folders, and `datasets` in memory and on disk, row by row."""

from __future__ import annotations

import codecs
import gzip
import json
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from plaudit.core.checkpoint import replacing
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.feedback.records import json_line

Row = Mapping[str, Any]
_LINES = (".jsonl", ".jsonl.gz", ".ndjson")
_READABLE = (*_LINES, ".json", ".parquet")
_NESTED = ("chosen", "rejected", "prompt", "messages", "context", "tools")
_BATCH = 128


def rows_of(source: Any, *, split: str | None = None) -> Iterator[tuple[str, Row]]:
    """Each row with its place, such as `rows.jsonl, line 3`; a file is read as the rows are asked for.

    Args:
        source: A file (`.jsonl`, `.jsonl.gz`, `.json`, `.parquet`), a folder that `datasets` saved or that holds such
            files, a `datasets.Dataset`, or rows.
        split: Which split, where the source has several: a `DatasetDict`, files named after their split, or a
            column `split`.

    Raises:
        BadInput: when there is nothing to read, or a line is no row.
    """
    if isinstance(source, str | Path):
        yield from _chosen(_of_path(Path(source), split), split)
    elif isinstance(source, Mapping):  # a DatasetDict
        splits = cast("Mapping[Any, Any]", source)
        if split not in splits and not (split is None and len(splits) == 1):
            raise BadInput("split", expected=f"one of {', '.join(map(str, splits))}", received=split)
        yield from _of_rows(splits[split] if split in splits else next(iter(splits.values())))
    elif isinstance(source, Iterable):
        yield from _chosen(_of_rows(source), split)
    else:
        raise BadInput("source", expected="a path, a data set or rows", received=type(source).__name__)


def _chosen(rows: Iterator[tuple[str, Row]], split: str | None) -> Iterator[tuple[str, Row]]:
    """Of rows that say which split they belong to, those of one."""
    return (r for r in rows if split is None or r[1].get("split", split) == split)


def _of_path(path: Path, split: str | None) -> Iterator[tuple[str, Row]]:
    if path.is_dir():
        yield from _of_folder(path, split)
    elif not path.is_file():
        raise BadInput("source", expected="a file or folder that exists", received=str(path))
    elif path.name.endswith(_LINES):
        yield from _of_lines(path)
    elif path.suffix == ".json":
        yield from _of_json(path)
    elif path.suffix == ".parquet":
        yield from _of_parquet(path)
    else:
        raise BadInput("source", expected=f"a file that ends in {', '.join(_READABLE)}", received=path.name)


def _of_folder(folder: Path, split: str | None) -> Iterator[tuple[str, Row]]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        loaded = require("datasets", extra="text").load_from_disk(str(folder))
        yield from rows_of(loaded, split=split)
        return
    files = sorted(f for f in folder.rglob("*") if f.name.endswith(_READABLE) and f.name != "dataset_info.json")
    splits = {f.name.split(".")[0].split("-")[0] for f in files}
    if split is not None and split in splits:
        files = [f for f in files if f.name.split(".")[0].split("-")[0] == split]
    elif len(splits) > 1:
        raise BadInput("split", expected=f"one of {', '.join(sorted(splits))}, which the folder has", received=split)
    if not files:
        raise BadInput("source", expected=f"a folder with files that end in {', '.join(_READABLE)}",
                       received=str(folder))
    for file in files:
        yield from _of_path(file, None)


def _of_lines(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                place = f"{path}, line {number}"
                text = _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, place)
                if text.strip():
                    yield _row(text, place)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput("source", expected="lines of JSON in UTF-8", received=f"{path} ({error})") from error


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(place, expected="text in UTF-8", received=f"the byte {line[error.start]:#04x} at {error.start}",
                       fix="convert the file, as with iconv -f latin1 -t utf-8") from error


def _row(line: str, place: str) -> tuple[str, Row]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(place, expected="a JSON object", received=f"{line[:60]!r} ({error})") from error
    return place, _checked(row, place)


def _of_json(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput("source", expected="a JSON file with a list of rows", received=f"{path} ({error})") from error
    if not isinstance(rows, list):
        raise BadInput("source", expected="a list of rows", received=f"{path} with {type(rows).__name__}",
                       fix="write one object a line into a .jsonl file")
    for i, row in enumerate(rows):
        yield f"{path}, row {i}", _checked(row, f"{path}, row {i}")


def _of_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    parquet = require("pyarrow.parquet", extra="text")
    try:
        with parquet.ParquetFile(path) as file:
            n = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    yield f"{path}, row {n}", _from_arrow(row)
                    n += 1
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        if isinstance(error, BadInput):
            raise
        raise BadInput("source", expected="a Parquet file", received=f"{path} ({error})") from error


def _of_rows(rows: Iterable[Any]) -> Iterator[tuple[str, Row]]:
    arrow = type(rows).__module__.split(".")[0] == "datasets"
    if arrow and hasattr(rows, "with_format"):
        rows = cast("Any", rows).with_format(None)  # plain Python, whatever it was set to give
    for i, row in enumerate(rows):
        yield f"row {i}", _from_arrow(row) if arrow else _checked(row, f"row {i}")


def _checked(row: Any, place: str) -> Row:
    if not isinstance(row, Mapping):
        raise BadInput(place, expected="an object with columns", received=repr(row)[:80])
    return cast("Row", row)


def _from_arrow(row: Row) -> Row:
    """Arrow gives every message the keys of all: those that are null were not there."""
    return {k: _without_none(v) if k in _NESTED else v for k, v in row.items()}


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None or k == "content"}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


# --- writing -----------------------------------------------------------------------------------------


def write_rows(rows: Iterable[Row], path: Path) -> int:
    """Writes rows to a `.jsonl`, `.jsonl.gz` or `.parquet` file or, without a suffix, to a folder of `datasets`.

    Raises:
        BadInput: for another suffix, or rows whose columns have no common type (Parquet and `datasets` need one).
    """
    if path.name.endswith(_LINES):
        return _write_lines(rows, path)
    if path.suffix == ".parquet":
        table, parquet = as_table(rows), require("pyarrow.parquet", extra="text")
        with replacing(path) as temporary:
            parquet.write_table(table, temporary)
        return len(table)
    if path.suffix:
        raise BadInput("path", expected=f"a name that ends in {', '.join((*_LINES, '.parquet'))}, or a folder",
                       received=path.name)
    if path.exists() and not (path.is_dir() and ((path / "state.json").is_file() or not any(path.iterdir()))):
        raise BadInput("path", expected="a new folder, or one that datasets saved", received=str(path))
    data = as_dataset(rows)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    data.save_to_disk(str(temporary))
    if path.exists():
        shutil.rmtree(path)
    temporary.rename(path)
    return len(data)


def as_dataset(rows: Iterable[Row]) -> Any:
    """Rows as a `datasets.Dataset` in memory."""
    datasets = require("datasets", extra="text")
    return datasets.Dataset(datasets.table.InMemoryTable(as_table(rows)))


def as_table(rows: Iterable[Row]) -> Any:
    """Rows as an Arrow table, whose columns are those of all rows."""
    pyarrow, found = require("pyarrow", extra="text"), [dict(r) for r in rows]
    names = dict.fromkeys(name for row in found for name in row)
    try:
        return pyarrow.table({name: [row.get(name) for row in found] for name in names})
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise BadInput("records", expected="columns of one type each, which Arrow needs", received=str(error)[:200],
                       fix="write JSONL, or format='plaudit', which keeps nested values as JSON") from error


def _write_lines(rows: Iterable[Row], path: Path) -> int:
    n = 0
    with replacing(path) as temporary:
        file = gzip.open(temporary, "wt", encoding="utf-8", newline="\n") if path.suffix == ".gz" else temporary.open(
            "w", encoding="utf-8", newline="\n")
        with file:
            for row in rows:
                file.write(json_line(row, f"row {n}"))
                n += 1
    return n
