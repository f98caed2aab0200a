"""Scores the texts of a witness again, with consent where code would run that the audit did not see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.auditing.text.items import Item
from plaudit.auditing.text.scoring import Scorer
from plaudit.auditing.text.subject import recognise
from plaudit.auditing.text.witness import Said, TextWitness
from plaudit.core.consent import load_with_consent
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.saving import load_reward
from plaudit.core.targets import file_hash
from plaudit.specify.text.remote import RemoteReward

CLOSE = 1e-5


@dataclass(frozen=True)
class Again:
    """A witness whose texts were scored again."""

    witness: TextWitness
    paid: Sequence[float | None]
    why: Sequence[str]
    """Reasons for unknowns."""

    @staticmethod
    def same_at(said: Said, now: float | None) -> bool:
        """Whether one number came out again; unknown is like unknown."""
        if said.paid is None or now is None:
            return said.paid is None and now is None
        return abs(said.paid - now) <= CLOSE * max(1.0, abs(said.paid))

    @property
    def same(self) -> bool:
        """Whether all numbers of the audit came out again."""
        return all(self.same_at(s, p) for s, p in zip(self.witness.said, self.paid, strict=True))


def score_again(path: str | Path, *, trust: bool = False, reward: Reward | None = None) -> Again:
    """Scores the witness in a file.

    Args:
        path: a witness file of an audit of texts.
        trust: whether code may run that has changed since the audit, or that lies outside the working folder.
        reward: the reward, instead of the one that the witness names.

    Raises:
        BadInput: when the file is no witness, or code would have to run without consent.
    """
    witness = TextWitness.load(path)
    scorer = Scorer(reward or _reward(witness.reward, trust=trust))
    paid: list[float | None] = []
    for said in witness.said:
        item = Item(prompt=said.prompt, columns=said.columns)
        value = float(scorer.afresh([item], [said.completion])[0])
        paid.append(value if math.isfinite(value) else None)
    return Again(witness, paid, list(scorer.why))


def _reward(source: Mapping[str, Any], *, trust: bool) -> Reward:
    if "planted" in source:
        from plaudit.auditing.text.flaws.collection import planted

        return planted(str(source["planted"]), twin=bool(source.get("twin"))).arguments()["reward"]
    if "pairs" in source:
        from plaudit.auditing.text.pairs import surface_of

        return surface_of(str(source["pairs"]))
    if "url" in source:
        if not trust:
            raise BadInput("witness", expected="your consent to ask a server (with the token out of PLAUDIT_TOKEN)",
                           received=str(source["url"]),
                           fix="pass --trust (in Python: trust=True)")
        return RemoteReward.at(str(source["url"]), kind=source.get("kind"), tokenizer=source.get("tokenizer"))
    if "model" in source:
        folder = Path(str(source["model"]))
        config = folder / "config.json"
        if not config.is_file() or (file_hash(config) != source.get("sha256") and not trust):
            raise BadInput("witness", expected="the reward model of the audit", received=f"{folder}, missing or "
                           "changed", fix="pass --trust to score with it as it is now")
        return recognise(folder).reward
    if "saved" in source:
        file = Path(str(source["saved"]))
        if not trust and (not file.is_file() or file_hash(file) != source.get("sha256")):
            raise BadInput("witness", expected="the saved reward as it was at the audit", received=str(file),
                           fix="pass --trust to score with it as it is now")
        return load_reward(str(file), trust=trust, device="cpu")
    if "target" not in source:
        raise BadInput("witness", expected="a reward that can be made by its name",
                       received=f"{source.get('object', 'nothing')}, an object of a Python session",
                       fix="in Python, pass score_again(witness, reward=...)")
    return recognise(load_with_consent(source, trust=trust).thing).reward
