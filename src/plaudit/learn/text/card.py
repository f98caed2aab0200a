"""The card of a reward model: what it was made from, how good it is, and what its audit found, for people and tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import write_json, write_text
from plaudit.core.errors import BadInput
from plaudit.learn.text import saving

JSON, PAGE = "card.json", "README.md"


def write(folder: str | Path, *, audit: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes `card.json` and `README.md` beside a saved model.

    Args:
        folder: A folder that `saving.save` wrote.
        audit: The summary of an audit: `sentence`, `findings` (titles) and whatever else; kept until it is replaced.

    Returns:
        The card.
    """
    folder = Path(folder)
    meta = saving.read_meta(folder)
    training = meta.get("training", {})
    kept = read(folder).get("audit") if (folder / JSON).is_file() else None
    card = {
        "name": folder.resolve().name, "base": meta.get("base"), "loss": meta.get("loss"), "head": meta["head"],
        "data_hash": training.get("identity", {}).get("data"), "records": training.get("records"),
        "options": training.get("identity", {}).get("options"), "held_out": training.get("held_out"),
        "expo_alpha": training.get("expo_alpha"), "standard": meta["standard"],
        "why_not_standard": meta["why_not_standard"] or None, "standard_offset": meta["standard_offset"],
        "format": meta["format"], "audit": dict(audit) if audit is not None else kept,
    }
    write_json(folder / JSON, card)
    write_text(folder / PAGE, page(card))
    return card


def read(folder: str | Path) -> dict[str, Any]:
    """The card of a folder.

    Raises:
        BadInput: when there is none, or it is damaged.
    """
    try:
        return json.loads((Path(folder) / JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput("folder", expected=f"a model with a {JSON}", received=f"{folder} ({error})") from None


def page(card: Mapping[str, Any]) -> str:
    """The card as Markdown, with the front matter that the hub reads."""
    lines = ["---", "library_name: transformers", "pipeline_tag: text-classification", "tags: [reward-model, plaudit]",
             "---", "", f"# {card['name']}", "", _kind(card), "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in _rows(card) if value is not None]
    lines += ["", "## How to score", "", *_how(card), "", "## Audit", "", *_audit(card.get("audit"))]
    return "\n".join(lines) + "\n"


def _kind(card: Mapping[str, Any]) -> str:
    head = card["head"]
    members = f" with {head['members']} members" if head["members"] > 1 else ""
    what = {"scalar": "one number for each text", "attributes": "ratings that add up to a reward",
            "gaussian": "a mean and a deviation"}[head["kind"]]
    return f"A reward model{members} ({what}), trained with plaudit from `{card['base']}`."


def _rows(card: Mapping[str, Any]) -> list[tuple[str, Any]]:
    held = card.get("held_out") or {}
    rows: list[tuple[str, Any]] = [("loss", f"`{card['loss']}`"), ("records", card.get("records")),
                                   ("data (SHA-256)", card.get("data_hash"))]
    if held.get("accuracy") is not None:
        around = held.get("accuracy_interval")
        shown = f" ({around[0]:.3f} to {around[1]:.3f})" if around else ""
        rows += [("held-out accuracy", f"{held['accuracy']:.3f}{shown}, {held['pairs']} pairs"),
                 ("log loss", f"{held['nll']:.3f}"), ("calibration error", f"{held['ece']:.3f}"),
                 ("temperature", f"{held['temperature']:.2f}")]
    if held.get("length_correlation") is not None:
        rows.append(("correlation with length", f"{held['length_correlation']:+.2f}"))
    if held.get("rating_error") is not None:
        rows.append(("rating error (RMS)", f"{held['rating_error']:.3f}"))
    if card["head"]["attributes"]:
        weights = zip(card["head"]["attributes"], card["head"]["weights"], strict=True)
        rows.append(("reward", " + ".join(f"{w:g} {a}" for a, w in weights if w)))
    if card.get("expo_alpha") is not None:
        rows.append(("weight extrapolation", f"alpha {card['expo_alpha']:g}"))
    return rows


def _how(card: Mapping[str, Any]) -> list[str]:
    out = ["    from plaudit.learn.text.reward import TextReward",
           f'    TextReward.load("{card["name"]}").score_texts(["2 + 2 = ?"], ["4"])', ""]
    if not card["standard"]:
        return [*out, f"There is no standard form: {card['why_not_standard']}."]
    out.append("It is also a plain `AutoModelForSequenceClassification` with one label, for TRL, vLLM and RewardBench.")
    if card["head"]["members"] > 1:
        out.append("That form gives the mean of the members; the members are in `plaudit/head.safetensors`.")
    if abs(card["standard_offset"]) > 1e-9:
        out.append(f"Its numbers are higher by {card['standard_offset']:.6g} (its layer has no bias).")
    return out


def _audit(audit: Mapping[str, Any] | None) -> list[str]:
    if not audit:
        return ["Not audited yet: `plaudit audit FOLDER --data rows.jsonl`."]
    return [str(audit.get("sentence", "")), "", *(f"- {title}" for title in audit.get("findings", ()))]
