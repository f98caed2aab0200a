"""A tree of continuations of one prompt: what several answers have in common stands in it once.

A node is a piece of text that goes on from its parent; an answer is a way from the root to a leaf. Comparisons read the
leaves, process rewards the nodes on a way, searches add nodes where they look, and values that are known at leaves are
backed up to what comes before them. Answers that share nothing are the tree of depth one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from plaudit.core.checkpoint import replacing
from plaudit.core.errors import BadInput
from plaudit.feedback.records import Conversation, json_line

ROOT = 0
"""The number of the root: the empty answer."""
_FORMAT = "plaudit.tree.1"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A piece of an answer, and the answer up to its end."""

    parent: int
    """The number of the node that it goes on from; -1 at the root."""
    depth: int
    completion: str | Conversation = ""
    """The whole answer from the root to here, as a text or as messages."""
    ids: tuple[int, ...] = ()
    """The tokens that this piece adds."""
    ended: bool = False
    """Whether the answer ends here, so that nothing can go on from it."""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON that a search or a judge keeps with it, such as visits."""


class PrefixTree:
    """Answers to one prompt that share beginnings.

    Nodes have numbers in the order in which they were added, a parent before its children.

    Args:
        prompt: A text, the messages so far, or whatever a policy reads.
        id: What it is called; by default a hash of the prompt, so that all trees of a prompt have one name.

    Example:
        >>> tree = PrefixTree("2 + 2?")
        >>> it = tree.add(ROOT, "It is", ids=(5, 6))
        >>> four, five = tree.add(it, "It is 4", ids=(4,), ended=True), tree.add(it, "It is 5", ids=(9,), ended=True)
        >>> tree.leaves(), tree.common(four, five) == it, tree.ids_of(five), tree.tokens(it)
        ([2, 3], True, (5, 6, 9), 2)
        >>> tree.backed_up({four: 1.0, five: 0.0})
        [0.5, 0.5, 1.0, 0.0]
    """

    def __init__(self, prompt: Any, *, id: str | None = None) -> None:
        self.prompt = prompt
        self.id = id if id is not None else hashlib.sha256(
            json.dumps(prompt, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.nodes: list[Node] = [Node(parent=-1, depth=0)]
        self.sampled = 0
        """Tokens that were sampled for it, those of pieces that were thrown away too."""
        self._children: list[list[int]] = [[]]
        self._length = [0]

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"PrefixTree({self.id!r}, {len(self)} nodes, {len(self.leaves())} leaves)"

    def add(self, parent: int, completion: str | Conversation, *, ids: Sequence[int] = (), ended: bool = False,
            more: Mapping[str, Any] | None = None) -> int:
        """A piece that goes on from a node; returns its number.

        Raises:
            BadInput: when there is no such node, or its answer has ended.
        """
        if not 0 <= parent < len(self.nodes) or self.nodes[parent].ended:
            raise BadInput("parent", expected=f"a node in 0..{len(self.nodes) - 1} whose answer has not ended",
                           received=parent)
        self.nodes.append(Node(parent=parent, depth=self.nodes[parent].depth + 1, completion=completion,
                               ids=tuple(ids), ended=ended, more=dict(more or {})))
        self._children.append([])
        self._children[parent].append(len(self.nodes) - 1)
        self._length.append(self._length[parent] + len(ids))
        return len(self.nodes) - 1

    # --- ways through it ----------------------------------------------------------------------------------

    def children(self, node: int) -> list[int]:
        """What goes on from a node."""
        return list(self._children[node])

    def leaves(self) -> list[int]:
        """Nodes from which nothing goes on; a bare root is none."""
        return [i for i in range(1, len(self.nodes)) if not self._children[i]]

    def way(self, node: int) -> list[int]:
        """The nodes from the first piece to this one, without the root: the steps of its answer."""
        out: list[int] = []
        while node > ROOT:
            out.append(node)
            node = self.nodes[node].parent
        return out[::-1]

    def ids_of(self, node: int) -> tuple[int, ...]:
        """The tokens of the answer up to here."""
        return tuple(t for i in self.way(node) for t in self.nodes[i].ids)

    def tokens(self, node: int) -> int:
        """How many these are; with `way`, where each step of an answer ends."""
        return self._length[node]

    def common(self, first: int, second: int) -> int:
        """The lowest common ancestor: the last node that both answers have (one of them, where it begins the other)."""
        a, b = first, second
        while a != b:
            if self.nodes[a].depth >= self.nodes[b].depth:
                a = self.nodes[a].parent
            else:
                b = self.nodes[b].parent
        return a

    # --- values -------------------------------------------------------------------------------------------

    def backed_up(self, known: Mapping[int, float], *, by: Literal["mean", "max", "min"] = "mean"
                  ) -> list[float | None]:
        """A value for every node: what is known, and above that the mean, max or min over the children's values.

        The mean over children is the Monte-Carlo value of a prefix under the policy that sampled them. A child without
        a value is left out; a node is None (which is not 0) where nothing is known below it.

        Raises:
            BadInput: when a node does not exist or `by` is unknown.
        """
        if by not in ("mean", "max", "min"):
            raise BadInput("by", expected="mean, max or min", received=by)
        if foreign := [i for i in known if not 0 <= i < len(self.nodes)]:
            raise BadInput("known", expected=f"nodes in 0..{len(self.nodes) - 1}", received=foreign[:5])
        out: list[float | None] = [None] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            below = [v for c in self._children[i] if (v := out[c]) is not None]
            if i in known:
                out[i] = float(known[i])
            elif below:
                out[i] = {"mean": sum(below) / len(below), "max": max(below), "min": min(below)}[by]
        return out

    # --- files --------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"format": _FORMAT, "id": self.id, "prompt": self.prompt, "sampled": self.sampled, "nodes": [
            {"parent": n.parent, "completion": n.completion, "ids": list(n.ids), "ended": n.ended, "more": dict(n.more)}
            for n in self.nodes[1:]]}

    @staticmethod
    def from_json(raw: Any) -> PrefixTree:
        """The inverse of `to_json`.

        Raises:
            BadInput: when it is no tree.
        """
        if not isinstance(raw, Mapping) or cast("Any", raw).get("format") != _FORMAT:
            raise BadInput("tree", expected=f"an object of the format {_FORMAT}", received=repr(cast("Any", raw))[:80])
        values = cast("Mapping[str, Any]", raw)
        try:
            tree = PrefixTree(values["prompt"], id=str(values["id"]))
            tree.sampled = int(values["sampled"])
            for node in values["nodes"]:
                tree.add(int(node["parent"]), node["completion"], ids=[int(t) for t in node["ids"]],
                         ended=bool(node["ended"]), more=node["more"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("tree", expected="nodes with a parent before them", received=str(error)) from error
        return tree


def write_trees(path: str | Path, trees: Iterable[PrefixTree]) -> Path:
    """Writes one tree a line, atomically.

    Example:
        >>> import tempfile
        >>> file = write_trees(Path(tempfile.mkdtemp()) / "trees.jsonl", [PrefixTree("hm", id="a")])
        >>> [t.id for t in read_trees(file)]
        ['a']
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for i, tree in enumerate(trees):
            file.write(json_line(tree.to_json(), f"tree {i}"))
    return Path(path)


def read_trees(path: str | Path) -> list[PrefixTree]:
    """Reads what `write_trees` wrote.

    Raises:
        BadInput: naming the line, when the file is missing or a line is no tree.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("path", expected="a file with one tree a line", received=f"{path} ({error})") from error
    out: list[PrefixTree] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                out.append(PrefixTree.from_json(json.loads(line)))
            except ValueError as error:  # JSON's error and BadInput alike
                raise BadInput(f"{path}, line {number}", expected="a tree", received=str(error)[:200]) from error
    return out
