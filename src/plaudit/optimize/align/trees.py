"""Trees of continuations sampled from a policy: what is compared shares its beginnings, so fewer tokens are sampled.

The pieces of all nodes of one depth, of all prompts, are sampled in one batch. Independent answers are the tree of
depth one (`chains`): the same sampler, the same rule for duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.text.trees import ROOT, PrefixTree
from plaudit.optimize.align.policy import Policy

_NODES = 1 << 20
"""How many pieces of a tree have random numbers of their own."""


def grow_trees(policy: Policy, prompts: Sequence[Any], *, depth: int = 3, branching: int = 2,
               segments: Sequence[int] | None = None, tries: int = 4, max_tokens: int | None = None,
               seed: int | Seeds = 0, progress: Callable[[int, int], None] | None = None) -> list[PrefixTree]:
    """A tree for each prompt: from every node that has not ended, `branching` different continuations.

    A continuation ends at its end token or with its segment; the last segment goes on to the longest answer. Siblings
    with one text are sampled anew, up to `tries` times, and then left out, so that a tree may have fewer leaves than
    branching ** depth: where answers end early, or where the policy is sure.

    Args:
        policy: What samples.
        prompts: What its `encode` reads, each once.
        depth: D, how many pieces an answer has at most.
        branching: B, how many continuations a node has at most.
        segments: The tokens of the pieces at each depth but the last; by default max_tokens / depth, rounded up.
        tries: k, how often duplicates are sampled anew.
        max_tokens: The most tokens of an answer; None is the policy's own number.
        seed: The same seed gives the same tree of a prompt at a place, whatever stands behind it.
        progress: Told how many of the depths are done.

    Raises:
        BadInput: when a number is out of its range, prompts are given twice, or the policy is greedy (temperature 0),
            for then a tree has but one leaf.

    Source:
        Qiu et al. (2024), Reward Generalization in RLHF, algorithm 1.

    Example:
        >>> import torch
        >>> from plaudit.optimize.align.tables import TablePolicy
        >>> tree, = grow_trees(TablePolicy(torch.zeros(1, 7, 2), length=3), [0], seed=1)
        >>> len(tree.leaves()), tree.nodes[tree.leaves()[0]].depth
        (8, 3)
    """
    longest = policy.max_tokens if max_tokens is None else max_tokens
    stops = _stops(policy, depth, branching, segments, tries, longest)
    names = [str(p) for p in prompts]
    if len(set(names)) < len(names):
        raise BadInput("prompts", expected="each prompt once", received=f"{len(names) - len(set(names))} repeated",
                       fix="grow a larger tree instead: trees of one prompt belong on one side of a split")
    root = seed if isinstance(seed, Seeds) else Seeds(seed)
    trees = [PrefixTree(p) for p in prompts]
    fringe = [(t, ROOT) for t in range(len(trees))]
    for d, stop in enumerate(stops):
        fringe = _deeper(policy, trees, fringe, branching, stop, tries, root.child("depth", d))
        if progress is not None:
            progress(d + 1, depth)
    return trees


def chains(policy: Policy, prompts: Sequence[Any], n: int, **options: Any) -> list[PrefixTree]:
    """n independent, different answers to each prompt, as trees of depth one; options are those of `grow_trees`."""
    return grow_trees(policy, prompts, depth=1, branching=n, **options)


def _stops(policy: Policy, depth: int, branching: int, segments: Sequence[int] | None, tries: int,
           longest: int) -> list[int]:
    """After how many tokens the pieces of each depth end."""
    if not policy.temperature > 0:
        raise BadInput("policy.temperature", expected="a number above 0", received=policy.temperature,
                       fix="a greedy policy has one answer, and a tree of it one leaf")
    if depth < 1 or branching < 1 or tries < 0 or not 1 <= longest <= policy.max_tokens:
        raise BadInput("depth, branching, tries, max_tokens", expected=f"at least 1, 1, 0, and 1..{policy.max_tokens}",
                       received=(depth, branching, tries, longest))
    lengths = [-(-longest // depth)] * (depth - 1) if segments is None else list(segments)
    if len(lengths) != depth - 1 or min(lengths, default=1) < 1 or (depth > 1 and sum(lengths) >= longest):
        raise BadInput("segments", expected=f"{depth - 1} positive lengths (the last piece goes on to the end) of "
                       f"fewer than {longest} tokens together", received=lengths, fix="pass a smaller depth")
    return [*(sum(lengths[:d + 1]) for d in range(depth - 1)), longest]


def _deeper(policy: Policy, trees: list[PrefixTree], fringe: list[tuple[int, int]], branching: int, stop: int,
            tries: int, seeds: Seeds) -> list[tuple[int, int]]:
    """Adds the children of the fringe; returns those that have not ended."""
    place: dict[int, int] = {}
    streams: list[int] = []
    for t, _ in fringe:
        place[t] = place.get(t, -1) + 1
        streams.append(t * _NODES + place[t])
    seen: list[set[str]] = [set() for _ in fringe]
    new: list[list[int]] = [[] for _ in fringe]
    for attempt in range(tries + 1):
        short = [i for i in range(len(fringe)) if len(new[i]) < branching]
        if not short:
            break
        prefixes = [trees[t].ids_of(node) for t, node in (fringe[i] for i in short)]
        n = max(branching - len(new[i]) for i in short)
        drawn = policy.sample([trees[fringe[i][0]].prompt for i in short], n=n, prefixes=prefixes, max_tokens=stop,
                              seed=seeds.child("try", attempt), streams=[streams[i] for i in short])
        ended = (drawn.terminated.any(-1) if policy.end is not None else drawn.lengths == policy.max_tokens).tolist()
        action, length = drawn.action.tolist(), drawn.lengths.tolist()
        for k, i in enumerate(short):
            tree, node = trees[fringe[i][0]], fringe[i][1]
            for row in range(k * n, k * n + branching - len(new[i])):
                ids = action[row][len(prefixes[k]):length[row]]
                tree.sampled += len(ids)
                whole = [*prefixes[k], *ids]
                text = policy.decode(tree.prompt, whole)
                key = f"{ended[row]} {text}"
                if key not in seen[i]:
                    seen[i].add(key)
                    new[i].append(tree.add(node, text, ids=ids, ended=bool(ended[row])))
    return [(t, c) for (t, _), some in zip(fringe, new, strict=True) for c in some if not trees[t].nodes[c].ended]
