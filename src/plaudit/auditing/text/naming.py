"""Tells a reward of texts by the name that a user gives, without running any of it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

FILES = (".jsonl", ".json", ".parquet")
TEXT_ARGUMENTS = frozenset({"completion", "completions", "completion_text", "completion_texts", "prompt", "prompts",
                            "prompt_text", "solution_str", "completion_ids"})
"""A function that takes one of these is a reward of texts."""
SAVED = "reward.json"


def names_text(target: str) -> bool:
    """Whether a target on the command line is a reward of texts.

    Example:
        >>> names_text("http://127.0.0.1:8000"), names_text("pairs.jsonl"), names_text("CartPole-v1")
        (True, True, False)
    """
    if target.startswith(("http://", "https://", "flaw:text/", "healthy:text/", "follow-up:")) or \
            Path(target).suffix.lower() in FILES:
        return True
    folder = Path(target)
    if folder.is_dir():
        return _saved_of_text(folder / SAVED) if (folder / SAVED).is_file() else (folder / "config.json").is_file()
    file, _, name = target.rpartition(":")
    if not file.endswith(".py"):
        return False
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name and
               TEXT_ARGUMENTS & {a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]}
               for node in tree.body)


def _saved_of_text(file: Path) -> bool:
    """Whether a saved reward is of a class that reads texts; only its names are read."""
    try:
        target = json.loads(file.read_text(encoding="utf-8"))["reward"]["target"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(target, str) and "text" in target.partition(":")[0].split(".")
