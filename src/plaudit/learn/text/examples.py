"""Records as token sequences, and batches of them: sequences, what was said of them, and which rows they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.core.chat import ChatFormat
from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.learn.text.evidence import Evidence, evidence
from plaudit.learn.text.forward import Encoder
from plaudit.learn.text.language import Spoken
from plaudit.learn.text.packing import Batch


@dataclass(frozen=True)
class Example:
    """One record as tokens."""

    row: int
    """Which record of those that were given."""
    record: Preference
    ids: tuple[tuple[int, ...], ...]
    """The tokens of each option, its prompt included."""
    family: Hashable
    """Records of one family may share a prompt."""
    mu: float = float("nan")
    boot: tuple[float, ...] = ()
    target: tuple[float, ...] = ()
    states: Float[Tensor, "O D"] | None = None
    """What a frozen backbone makes of the options."""
    asked: int = 0
    """How many of them are the prompt's."""
    cut: tuple[int, ...] = ()
    """How many tokens were dropped of each option and its prompt."""


@dataclass(frozen=True)
class Cached:
    """States that were computed before, in place of a batch of tokens."""

    states_MD: Float[Tensor, "M D"]

    def __len__(self) -> int:
        return len(self.states_MD)

    @property
    def tokens(self) -> int:
        """Nothing is computed."""
        return 0

    def to(self, device: Any, **_: Any) -> Cached:
        """The same on another device."""
        return Cached(self.states_MD.to(device))


@dataclass(frozen=True)
class Collated:
    """A batch: its sequences, which of them are the options of which record, and what was said of those.

    Attributes:
        batch: The sequences, flat.
        slot_NO: The place of each option among them; 0 where there is none.
        evidence: What was said.
        row_N: The records' numbers.
        spoken: The sequences as tokens, for the language head.
    """

    batch: Batch | Cached
    slot_NO: Int[Tensor, "N O"]
    evidence: Evidence
    row_N: Int[Tensor, "N"]
    spoken: Spoken | None = None

    def __len__(self) -> int:
        return len(self.row_N)

    def to(self, device: Any, **_: Any) -> Collated:
        """The same on another device."""
        return Collated(self.batch.to(device), self.slot_NO.to(device), self.evidence.to(device),
                        self.row_N.to(device), self.spoken)


def tokenised(records: Sequence[Preference], format: ChatFormat, *,
              progress: Callable[[int], None] | None = None) -> list[Example]:
    """The records as tokens.

    Raises:
        BadInput: naming the row, for one that cannot be said, or of which nothing is left.
    """
    out: list[Example] = []
    for row, record in enumerate(records):
        try:
            said = format.encode_options(record.context, record.options, tools=record.tools or None)  # type: ignore[arg-type]
        except BadInput as error:
            raise BadInput(f"records[{row}]", expected="texts that the model's format can say", received=str(error)) \
                from error
        ids = tuple(tuple(e.ids) for e in said)
        if not all(ids):
            raise BadInput(f"records[{row}]", expected="options with at least one token each", received=record.options)
        out.append(Example(row, record, ids, tuple(said[0].prompt_ids) or ("alone", row),
                           asked=len(said[0].prompt_ids), cut=tuple(e.cut for e in said)))
        if progress is not None:
            progress(1)
    return out


def with_bootstrap(examples: Sequence[Example], members: int, *, seed: int) -> list[Example]:
    """Each member sees a bootstrap sample: Poisson(1) copies of each family, the same for all records of a prompt."""
    if members == 1:
        return list(examples)
    root = Seeds(seed).child("bootstrap")
    counts: dict[Hashable, tuple[float, ...]] = {}
    out: list[Example] = []
    for example in examples:
        if example.family not in counts:
            draw = root.child(len(counts)).numpy().poisson(1.0, members)
            counts[example.family] = tuple(map(float, draw))
        out.append(replace(example, boot=counts[example.family]))
    return out


def collate(examples: Sequence[Example], encoder: Encoder, *, attributes: Sequence[str] = ()) -> Collated:
    """Puts examples into one batch."""
    O = max(len(e.ids) for e in examples)  # noqa: E741 (the axis of options)
    slot = torch.zeros(len(examples), O, dtype=torch.long)
    sequences: list[tuple[int, ...]] = []
    family: list[Hashable] = []
    for n, e in enumerate(examples):
        slot[n, :len(e.ids)] = torch.arange(len(sequences), len(sequences) + len(e.ids))
        sequences += e.ids
        family += [e.family] * len(e.ids)
    known = [e.states for e in examples if e.states is not None]
    batch = Cached(torch.cat(known)) if len(known) == len(examples) else encoder(sequences, family)
    boot = torch.tensor([e.boot for e in examples]) if examples[0].boot else None
    target = [e.target for e in examples] if examples[0].target else None
    said = evidence([e.record for e in examples], attributes=attributes, mu=[e.mu for e in examples], boot_NH=boot,
                    target=target)
    spoken = Spoken(tuple(sequences), tuple(e.asked for e in examples for _ in e.ids))
    return Collated(batch, slot, said, torch.tensor([e.row for e in examples]), spoken)


def data_hash(records: Sequence[Preference]) -> str:
    """SHA-256 (16 hex digits) over the records in their order.

    Example:
        >>> data_hash([Preference(options=("a", "b"), label=1.0)])
        '91aff37a0ad50f13'
    """
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record.to_json(), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()[:16]
