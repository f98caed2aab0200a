"""The card of a feature model: what it reads, what each feature is worth, and how good simpler models are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import write_json, write_text
from plaudit.learn.text.feature_reward import NO_CLASSIFIER, FeatureReward

JSON, PAGE = "card.json", "README.md"


def write(folder: str | Path, reward: FeatureReward, report: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `card.json` and `README.md` beside a saved feature model; gives the card."""
    folder = Path(folder)
    spec = reward.features.spec()
    source = spec["source"] or {}
    card = {"name": folder.resolve().name, "features": [f.declared() for f in reward.features],
            "code": source.get("target"), "sequence_classifier": None, "why_not_standard": NO_CLASSIFIER,
            **dict(report)}
    write_json(folder / JSON, card)
    write_text(folder / PAGE, page(card))
    return card


def page(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    out = [f"# {card['name']}", "", f"A reward model of {len(card['features'])} named features, fitted with plaudit to "
           f"{card['pairs']} pairs of {card['prompts']} prompts.", "", "## How good it is", "", *measures(card), "",
           f"Measured on {card['measured_on']}. `{card['kind']}` is the one that pays.", "", "## Features", "",
           *_features(card), ""]
    out += [f"- Not used: {name}, for {reason}." for name, reason in card["dropped"].items()]
    length = card["length_correlation"]
    said = "none, lengths do not differ" if length is None else f"{length:+.2f}"
    out += ["", "## Length", "", "Correlation of the reward with the logarithm of the number of words, among options "
            f"of one prompt: {said}."
            + (" The length was controlled for." if card["length_control"] else ""), "", "## How to score", "",
            f"    plaudit score --model {card['name']} --data rows.jsonl --out scored.jsonl", "",
            f"There is no standard form: {card['why_not_standard']}. The functions are found again by file and name"
            + (f" (`{card['code']}`)" if card["code"] else "") + "; they run as you have seen them, or with `--trust`."]
    return "\n".join(out) + "\n"


def measures(card: Mapping[str, Any]) -> list[str]:
    """A table of the models."""
    rows = ["| model | pair accuracy | log loss | weight decay |", "| --- | --- | --- | --- |"]
    for kind, found in card["measures"].items():
        if found["accuracy"] is None:
            continue
        low, high = found["accuracy_interval"]
        fitted = "| |" if kind == "mean" else f"{found['nll']:.3f} | {found['decay']:g} |"
        rows.append(f"| {kind} | {found['accuracy']:.3f} ({low:.3f} to {high:.3f}), {found['pairs']} pairs | {fitted}")
    return rows


def _features(card: Mapping[str, Any]) -> list[str]:
    rows = ["| feature | better | what the model does | accuracy lost without it | goes with length | missing |",
            "| --- | --- | --- | --- | --- | --- |"]
    for f in card["features"]:
        curve, lost = card["responses"].get(f["name"]), card["importance"].get(f["name"])
        if curve is None or lost is None:
            continue
        does = curve["moves"] + ("" if curve["agrees"] is not False else " (**not as declared**)")
        length = card["length_of_features"].get(f["name"])
        long = "" if length is None else f"{length:+.2f}"
        cost = f"{lost[0]:.3f} ({lost[1]:.3f} to {lost[2]:.3f})"
        rows.append(f"| {f['name']} | {f['better']} | {does} | {cost} | {long} | "
                    f"{card['missing'].get(f['name'], 0):.1%} |")
    return rows
