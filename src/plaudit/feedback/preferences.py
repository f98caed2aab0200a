"""`Preferences`: many comparisons of fragments of episodes, as tensors over one store of episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.checkpoint import load_state, save_state
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Fragment, Preference, read_records, write_records

_FORMAT = "plaudit.preferences.1"
_BY_PAIR = ("row", "start", "length", "label", "known", "tie", "margin", "weight", "level", "annotator", "group")


@dataclass(frozen=True, eq=False, kw_only=True)
class Preferences:
    """N comparisons of two fragments each. Undecided ones are kept, counted, and no evidence.

    Make one with `Preferences.of_pairs`, or from pairs that a sampler chose and an annotator labelled.

    Raises:
        BadInput: when an index is out of range, a label is no probability, or a margin or weight is negative.

    Example:
        >>> steps = torch.zeros(2, 5, 1)
        >>> no = torch.zeros(2, 5, dtype=torch.bool)
        >>> store = Episodes(obs=steps, action=steps, next_obs=steps, terminated=no, truncated=no, mask=~no)
        >>> said = Preferences.of_pairs(store, row=[[0, 1], [1, 0]], label=[1.0, None])
        >>> said
        Preferences(2 pairs: 1 first, 1 undecided; 5 steps)
    """

    episodes: Episodes
    """The store that the fragments lie in, [B, T]."""
    row: Int[Tensor, "N 2"]
    start: Int[Tensor, "N 2"]
    length: Int[Tensor, "N 2"]
    label: Float[Tensor, "N"]
    """How sure it is that the first is better; NaN where undecided."""
    known: Bool[Tensor, "N"]
    tie: Bool[Tensor, "N"]
    margin: Float[Tensor, "N"]
    weight: Float[Tensor, "N"]
    level: Int[Tensor, "N"]
    """Which level of a hierarchy decided, from 0; -1 where that is no question."""
    annotator: Int[Tensor, "N"]
    """Index into `annotators`."""
    group: Int[Tensor, "N"]
    """Whose evidence it is where several reward models are fitted side by side, from 0."""
    annotators: tuple[str, ...] = ("",)
    context: str = ""
    """What all pairs share, such as the name of the task."""
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON: how the labels came about."""

    def __post_init__(self) -> None:
        n = self.label.shape[0]
        for name in _BY_PAIR:
            wanted = (n, 2) if name in ("row", "start", "length") else (n,)
            if tuple(getattr(self, name).shape) != wanted:
                raise BadInput(f"preferences.{name}", expected=f"shape {list(wanted)}",
                               received=list(getattr(self, name).shape))
        if n:
            self._check_fragments()
            self._check_numbers()

    def _check_fragments(self) -> None:
        low, high = int(self.row.min()), int(self.row.max())
        if low < 0 or high >= self.episodes.B:
            raise BadInput("preferences.row", expected=f"rows in [0, {self.episodes.B})",
                           received=low if low < 0 else high)
        if int(self.start.min()) < 0 or int(self.length.min()) < 1:
            raise BadInput("preferences.start, length", expected="starts >= 0 and lengths >= 1",
                           received=(int(self.start.min()), int(self.length.min())))
        stop = self.start + self.length
        count = torch.nn.functional.pad(self.episodes.mask.cpu().long().cumsum(-1), (1, 0))
        T = self.episodes.T
        inside = count[self.row, stop.clamp(max=T)] - count[self.row, self.start.clamp(max=T)]
        beyond = (inside < self.length).any(-1)
        if bool(beyond.any()):
            n = int(beyond.nonzero()[0])
            raise BadInput(f"preferences: pair {n}", expected="fragments inside their episodes",
                           received=f"rows {self.row[n].tolist()}, from steps {self.start[n].tolist()} to "
                                    f"{stop[n].tolist()}, of {self.episodes.lengths[self.row[n]].tolist()}")

    def _check_numbers(self) -> None:
        label = self.label[self.known]
        if not bool(((label >= 0) & (label <= 1)).all()):
            wrong = label[~((label >= 0) & (label <= 1))][0].item()
            raise BadInput("preferences.label", expected="probabilities in [0, 1] where known", received=wrong,
                           fix="mark undecided pairs with known=False" if wrong != wrong else
                           "an undecided pair has the label None")
        for name in ("margin", "weight"):
            value = getattr(self, name)
            good = torch.isfinite(value) & (value >= 0)
            if not bool(good.all()):
                raise BadInput(f"preferences.{name}", expected="finite numbers >= 0", received=value[~good][0].item(),
                               fix="the label says which option is better, the margin only by how much")
        if int(self.annotator.min()) < 0 or int(self.annotator.max()) >= len(self.annotators):
            raise BadInput("preferences.annotator", expected=f"indices of the {len(self.annotators)} annotators",
                           received=self.annotator.tolist()[:8])

    # --- making ------------------------------------------------------------------------------------------

    @staticmethod
    def of_pairs(episodes: Episodes, *, row: Any, start: Any = 0, length: Any = None,
                 label: Sequence[float | None] | Tensor | None = None, tie: Any = None, margin: Any = 0.0,
                 weight: Any = 1.0, level: Any = -1, annotator: str = "", group: Any = 0, context: str = "",
                 provenance: Mapping[str, Any] | None = None) -> Preferences:
        """Pairs of fragments, labelled or not yet.

        Args:
            episodes: The store.
            row: Integers [N, 2].
            start: Integers [N, 2], or one.
            length: Integers [N, 2], or one; None is from the start to the end of the episode.
            label: How sure it is that the first is better, [N]; None or NaN is undecided.
            tie: Booleans [N]: called equal by the annotator.
            margin: Numbers >= 0, [N] or one.
            weight: Numbers >= 0, [N] or one.
            level: Which level decided, [N] or one.
            annotator: Who said so.
            group: Whose evidence it is, [N] or one.
            context: What all pairs share.
            provenance: JSON about how the labels came about.

        Raises:
            BadInput: when rows are no pairs, or rows, starts and lengths are no whole numbers.
        """
        rows = _integers("row", row)
        rows = rows.reshape(-1, 2) if not rows.numel() else rows
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise BadInput("row", expected="the rows of two fragments for each pair, [N, 2]", received=list(rows.shape),
                           fix="row=[[0, 1]] is one pair")
        n = rows.shape[0]
        many = lambda x, dtype, shape=(n,): torch.as_tensor(x, dtype=dtype).expand(shape).clone()  # noqa: E731
        starts = many(_integers("start", start), torch.int64, (n, 2))
        if length is None:
            inside = (rows >= 0) & (rows < episodes.B)
            lengths = episodes.lengths.cpu()[rows.clamp(0, max(episodes.B - 1, 0))] - starts
            lengths = torch.where(inside, lengths, 1)
        else:
            lengths = many(_integers("length", length), torch.int64, (n, 2))
        values = torch.full((n,), torch.nan) if label is None else _labels(label)
        known = ~torch.isnan(values)
        ties = torch.zeros(n, dtype=torch.bool) if tie is None else many(tie, torch.bool)
        return Preferences(
            episodes=episodes, row=rows, start=starts, length=lengths, label=values, known=known, tie=ties & known,
            margin=many(margin, torch.float32), weight=many(weight, torch.float32), level=many(level, torch.int64),
            annotator=torch.zeros(n, dtype=torch.int64), group=many(group, torch.int64), annotators=(annotator,),
            context=context, provenance=dict(provenance or {}))

    def labelled(self, label: Sequence[float | None] | Tensor, *, annotator: str = "", tie: Any = None,
                 level: Any = -1, margin: Any = 0.0, weight: Any = 1.0,
                 provenance: Mapping[str, Any] | None = None) -> Preferences:
        """The same pairs with the answers of one annotator."""
        return Preferences.of_pairs(
            self.episodes, row=self.row, start=self.start, length=self.length, label=label, tie=tie, margin=margin,
            weight=weight, level=level, annotator=annotator, group=self.group, context=self.context,
            provenance=provenance)

    @staticmethod
    def of_records(records: Iterable[Preference], episodes: Episodes) -> Preferences:
        """Records of fragments over the store that they point into.

        Raises:
            Unsupported: when a record compares texts.
            BadInput: when there are none, they have different contexts, or point outside the store.
        """
        found = list(records)
        if not found:
            raise BadInput("records", expected="at least one", received="none")
        pairs: list[tuple[Fragment, Fragment]] = []
        for record in found:
            fragments = [o for o in record.options if isinstance(o, Fragment)]
            if len(fragments) != len(record.options):
                raise Unsupported("these preferences compare texts, not fragments of episodes; read them one by one "
                                  "with read_records")
            if len(fragments) != 2 or not isinstance(record.context, str):
                raise Unsupported("a store of episodes takes comparisons of two fragments in a context with a name; "
                                  f"here are {len(fragments)}")
            pairs.append((fragments[0], fragments[1]))
        contexts = {str(r.context) for r in found}
        if len(contexts) > 1:
            raise BadInput("records", expected="one context, such as one task", received=sorted(contexts),
                           fix="make one Preferences for each")
        names = tuple(dict.fromkeys(r.annotator for r in found)) or ("",)
        out = Preferences.of_pairs(
            episodes, row=[[f.row for f in p] for p in pairs],
            start=torch.tensor([[f.start for f in p] for p in pairs]),
            length=torch.tensor([[f.length for f in p] for p in pairs]), label=[r.label for r in found],
            tie=[r.tie for r in found], margin=[r.margin for r in found], weight=[r.weight for r in found],
            level=[int(r.provenance.get("level", -1)) for r in found],
            group=[int(r.provenance.get("group", 0)) for r in found], context=next(iter(contexts), ""))
        return replace(out, annotators=names, annotator=torch.tensor([names.index(r.annotator) for r in found]))

    def records(self) -> list[Preference]:
        """One record for each pair."""
        columns = {name: getattr(self, name).tolist() for name in _BY_PAIR}
        out: list[Preference] = []
        for n in range(len(self)):
            pair = tuple(Fragment(*(columns[name][n][side] for name in ("row", "start", "length"))) for side in (0, 1))
            level, group = columns["level"][n], columns["group"][n]
            why = {**({"level": level} if level >= 0 else {}), **({"group": group} if group else {})}
            out.append(Preference(
                options=(pair[0], pair[1]), label=columns["label"][n] if columns["known"][n] else None,
                tie=columns["tie"][n], context=self.context, margin=columns["margin"][n], weight=columns["weight"][n],
                annotator=self.annotators[columns["annotator"][n]], provenance=why))
        return out

    # --- looking -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.label.shape[0]

    @property
    def first_is_better(self) -> Bool[Tensor, "N"]:
        """Where the first option was preferred (False too where it was not known)."""
        return self.known & ~self.tie & (self.label > 0.5)

    def counts(self) -> dict[str, int]:
        """How many pairs: `first`, `second`, `equal` (ties and labels of 0.5), `undecided`."""
        first, second = self.first_is_better, self.known & ~self.tie & (self.label < 0.5)
        numbers = {"first": first, "second": second, "equal": self.known & ~first & ~second, "undecided": ~self.known}
        return {name: int(where.sum()) for name, where in numbers.items()}

    def levels(self) -> dict[int, int]:
        """How many pairs each level of the hierarchy decided."""
        decided = self.level[self.known & (self.level >= 0)]
        return {int(k): int(n) for k, n in zip(*decided.unique(return_counts=True), strict=True)}

    @property
    def equal_lengths(self) -> bool:
        """Whether the two options of each pair are equally long."""
        return bool((self.length[:, 0] == self.length[:, 1]).all())

    def __repr__(self) -> str:
        said = ", ".join(f"{n} {name}" for name, n in self.counts().items() if n)
        lengths = "no" if not len(self) else f"{int(self.length.min())}" if int(self.length.min()) == int(
            self.length.max()) else f"{int(self.length.min())} to {int(self.length.max())}"
        return f"Preferences({len(self)} pairs{': ' if said else ''}{said}; {lengths} steps)"

    def fragments(self, side: int) -> Episodes:
        """One option of every pair as episodes [N, L]; shorter ones are padded."""
        return _cut(self.episodes, self.row[:, side], self.start[:, side], self.length[:, side])

    def distinct(self) -> tuple[Episodes, Int[Tensor, "N 2"]]:
        """Every fragment once, as episodes [M, L], and which of them the options of each pair are."""
        T = self.episodes.T
        if len(self) and int(self.length.min()) == T:  # whole rows: the store itself
            return self.episodes, self.row
        keys, index = ((self.row * T + self.start) * (T + 1) + self.length).unique(return_inverse=True)
        place = keys // (T + 1)
        return _cut(self.episodes, place // T, place % T, keys % (T + 1)), index

    # --- choosing and joining ----------------------------------------------------------------------------

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Preferences:
        """Some of the pairs, over the same store."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index)
        return replace(self, **{name: getattr(self, name)[index] for name in _BY_PAIR})

    def decided(self) -> Preferences:
        """The pairs that were decided (ties included)."""
        return self[self.known]

    def swapped(self) -> Preferences:
        """Every pair the other way round, with the label that says the same."""
        return replace(self, row=self.row.flip(1), start=self.start.flip(1), length=self.length.flip(1),
                       label=1 - self.label)

    def split(self, share: float, *, seed: int = 0) -> tuple[Preferences, Preferences]:
        """Two disjoint parts of the pairs: the rest, and a random `share` that is held out (at least one pair).

        Raises:
            BadInput: when a part would be empty.
        """
        n = round(len(self) * share)
        if not 0 < n < len(self):
            raise BadInput("share", expected=f"a share that leaves pairs in both parts of {len(self)}", received=share)
        order = torch.randperm(len(self), generator=Seeds(seed).child("held out").torch())
        return self[order[n:].sort().values], self[order[:n].sort().values]

    @staticmethod
    def cat(parts: Sequence[Preferences]) -> Preferences:
        """All pairs of several, over one joined store.

        Raises:
            BadInput: when there are none, or their stores have different fields.
        """
        if not parts:
            raise BadInput("parts", expected="at least one Preferences", received="none")
        stores = list({id(p.episodes): p.episodes for p in parts}.values())
        offset, total = dict[int, int](), 0
        for store in stores:
            offset[id(store)], total = total, total + store.B
        names = tuple(dict.fromkeys(name for p in parts for name in p.annotators))
        index = [torch.tensor([names.index(name) for name in p.annotators]) for p in parts]
        joined = {name: torch.cat([getattr(p, name) for p in parts]) for name in _BY_PAIR}
        joined["row"] = torch.cat([p.row + offset[id(p.episodes)] for p in parts])
        joined["annotator"] = torch.cat([i[p.annotator] for i, p in zip(index, parts, strict=True)])
        return replace(parts[0], episodes=stores[0] if len(stores) == 1 else Episodes.cat(stores), annotators=names,
                       **joined)

    # --- files -------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Writes pairs and store to one safetensors file, atomically."""
        return save_state(path, {"format": _FORMAT, **self.state_dict()})

    def state_dict(self) -> dict[str, Any]:
        """Everything as JSON values and tensors."""
        return {"episodes": dict(self.episodes.tensors()), "annotators": list(self.annotators),
                "context": self.context, "provenance": dict(self.provenance),
                "pairs": {name: getattr(self, name) for name in _BY_PAIR}}

    @staticmethod
    def load(path: str | Path) -> Preferences:
        """Reads what `save` wrote.

        Raises:
            BadInput: when the file is missing, damaged or no file of preferences.
        """
        state = load_state(path)
        if state.get("format") != _FORMAT:
            raise BadInput("path", expected="a file that Preferences.save wrote", received=str(path))
        return Preferences.of_state(state)

    @staticmethod
    def of_state(state: Mapping[str, Any]) -> Preferences:
        """The inverse of `state_dict`."""
        return Preferences(episodes=Episodes.of_tensors(state["episodes"]), annotators=tuple(state["annotators"]),
                           context=state["context"], provenance=state["provenance"], **state["pairs"])

    def to_jsonl(self, path: str | Path) -> Path:
        """Writes one record a line; the store is a file of its own (`preferences.episodes.save`)."""
        return write_records(path, self.records())

    @staticmethod
    def from_jsonl(path: str | Path, episodes: Episodes) -> Preferences:
        """Reads records of fragments of a store.

        Raises:
            BadInput: when the file has none, or as `of_records`.
        """
        found = list(read_records(path))
        if not found:
            raise BadInput("path", expected="a file of at least one record", received=f"{path}, which has none")
        return Preferences.of_records(found, episodes)


@runtime_checkable
class Annotator(Protocol):
    """Whatever answers: takes pairs, returns the same pairs with labels."""

    name: str

    def __call__(self, pairs: Preferences) -> Preferences:
        """The pairs with this annotator's labels; what it cannot decide stays undecided."""
        ...


def _cut(episodes: Episodes, row: Int[Tensor, "M"], start: Int[Tensor, "M"], length: Int[Tensor, "M"]) -> Episodes:
    """Fragments as episodes [M, L], shorter ones padded with zeros."""
    step = torch.arange(int(length.max()) if len(length) else 0)
    inside = step < length.unsqueeze(1)
    at = torch.where(inside, start.unsqueeze(1) + step, start.unsqueeze(1))
    rows, where = row.unsqueeze(1).expand_as(at), inside.to(episodes.device)
    flat = dict[str, Tensor]()
    for name, leaf in episodes.tensors():
        if name in ("group", "agent", "member"):
            flat[name] = leaf[row]
            continue
        value = leaf[rows, at]
        keep = where.reshape(*where.shape, *[1] * (value.ndim - 2))
        flat[name] = torch.where(keep, value, torch.zeros((), dtype=value.dtype, device=value.device))
    return Episodes.of_tensors(flat)


def _integers(name: str, value: Any) -> Int[Tensor, "..."]:
    """Whole numbers as such, in whatever they came."""
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError):
        raise BadInput(name, expected="integers, as many for each pair", received=repr(value)[:80]) from None
    if found.is_floating_point() and not bool((found == found.round()).all()):
        raise BadInput(name, expected="integers", received=found[found != found.round()][:4].tolist())
    return found.to(torch.int64)


def _labels(label: Sequence[float | None] | Tensor) -> Float[Tensor, "N"]:
    if isinstance(label, Tensor):
        return label.to(torch.float32)
    return torch.tensor([torch.nan if v is None else float(v) for v in label], dtype=torch.float32)


