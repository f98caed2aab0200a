"""Conversations with one more turn: where the words of the next turn begin, in the words of a chat template.

A follow-up is the user's next turn. A model that was tuned to give feedback says it as the assistant, with the roles of
the conversation exchanged: it asks, somebody answers, it says what it thinks of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.core.chat import ChatFormat
from plaudit.core.errors import BadInput
from plaudit.core.tokens import plain_text

OPENING = ("Please ask me a question or give me a task. When I have answered, tell me what you think of my answer.")
"""What the user says first where roles are exchanged, so that the conversation begins as templates want it."""
_PROBES = ("Ab", "zQ")
"""Contents without a common first letter: what two renderings share before them is what stands before the content."""
_OTHER = {"user": "assistant", "assistant": "user"}
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """Token ids of a conversation up to the end of each possible next turn."""

    ids: tuple[tuple[int, ...], ...]
    """For each next turn, the conversation with it."""
    start: tuple[int, ...]
    """Where the words of each next turn begin."""
    response: tuple[int, int] | None = None
    """Where the words of the response stand, if that was asked for."""
    cut: int = 0
    """How many tokens were dropped on the left."""

    @property
    def cost(self) -> int:
        """How many tokens are computed where the conversation is shared."""
        shared = min(self.start)
        return shared + sum(len(ids) - shared for ids in self.ids)


@dataclass(frozen=True)
class NextTurn:
    """How a conversation goes on.

    Example:
        >>> from plaudit.learn.text.models import tiny_tokenizer
        >>> turn = NextTurn(ChatFormat(tiny_tokenizer(specials=["<|start_header_id|>", "<|end_header_id|>"])))
        >>> made = turn.encode("2 + 2?", "5", ["Right.", "Wrong."])
        >>> [turn.format.tokenizer.decode(ids[start:]) for ids, start in zip(made.ids, made.start)]
        ['Right.', 'Wrong.']
    """

    format: ChatFormat
    """A tokenizer with a chat template."""
    swapped: bool = False
    """Whether roles are exchanged, and the assistant says the next turn."""
    opening: str = OPENING
    """The first turn where they are."""

    def encode(self, context: Any, response: Any, said: Sequence[str], *, find_response: bool = False) -> Turn:
        """The ids of the conversation with each of the next turns, nothing behind their last word.

        What is too long is cut on the left; the response is kept whole.

        Raises:
            BadInput: when the template refuses the conversation, or the response does not fit.
        """
        messages = self.messages(context, response)
        role = "assistant" if self.swapped else "user"
        try:
            before = self._before(messages, role)
        except BadInput:
            messages = mended(messages)
            before = self._before(messages, role)
        texts = [before + text.strip() for text in said]
        found = self.format.tokenizer([before, *texts], add_special_tokens=False)["input_ids"]
        opened, ids = found[0], [list(one) for one in found[1:]]
        start = [_shared(opened, one) for one in ids]
        where = self._response(messages, before, ids[0]) if find_response else None
        return self._cut(Turn(tuple(map(tuple, ids)), tuple(start), where), messages, before)

    def messages(self, context: Any, response: Any) -> list[dict[str, Any]]:
        """The conversation with the response, roles exchanged where that is asked for.

        Raises:
            BadInput: when the response is empty: there is nothing to follow up on.
        """
        if not plain_text(response).strip():
            raise BadInput("response", expected="a text", received="an empty response: nothing to follow up on")
        said = [{"role": "assistant", "content": response}] if isinstance(response, str) else \
            [dict(m) for m in response]
        messages = [*turns_of(context), *said]
        return exchanged(messages, self.opening) if self.swapped else messages

    def _before(self, messages: Sequence[Message], role: str) -> str:
        """What the template writes before the words of the next turn."""
        one, other = (self.format.render([*messages, {"role": role, "content": probe}]) for probe in _PROBES)
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        if at is None or not one[at:].startswith(_PROBES[0]):
            raise BadInput("conversation", expected=f"a template that says a further turn of the {role}",
                           received=f"roles {[m.get('role') for m in messages]} and then {role}, which it leaves out")
        return one[:at]

    def _response(self, messages: Sequence[Message], before: str, ids: Sequence[int]) -> tuple[int, int]:
        """The tokens of the last message's words."""
        content = str(messages[-1].get("content") or "").strip()
        start = self._before(messages[:-1], str(messages[-1].get("role")))
        if not content or not before[len(start):].startswith(content):
            raise BadInput("response", expected="a last message whose words the template writes as they are",
                           received=f"{content!r:.60}")
        first, last = (_shared(self._ids(text), ids) for text in (start, start + content))
        return first, last

    def _cut(self, turn: Turn, messages: Sequence[Message], before: str) -> Turn:
        limit = self.format.max_length
        longest = max(map(len, turn.ids))
        if limit is None or longest <= limit:
            return turn
        if self.format.truncation == "refuse":
            raise BadInput("conversation", expected=f"at most {limit} tokens with a follow-up", received=longest,
                           fix="raise max_length, or choose truncation='left'")
        first = turn.response[0] if turn.response else _shared(
            self._ids(self._before(messages[:-1], str(messages[-1].get("role")))), turn.ids[0])
        cut = longest - limit
        if cut > first - 1:  # a token before the response stays, for its first one to be foretold
            raise BadInput("response", expected=f"at most {limit} tokens with a follow-up",
                           received=f"{longest - first} tokens, which cannot be cut")
        where = None if turn.response is None else (turn.response[0] - cut, turn.response[1] - cut)
        return Turn(tuple(ids[cut:] for ids in turn.ids), tuple(s - cut for s in turn.start), where, cut)

    def _ids(self, text: str) -> list[int]:
        return list(self.format.tokenizer(text, add_special_tokens=False)["input_ids"])


def turns_of(context: Any) -> list[dict[str, Any]]:
    """Messages of a context: a text is the user's, messages stay, utterances alternate and end with the user's.

    Of utterances in an odd number of which the last is a response, the first would be an assistant's that answers
    nothing: it is dropped.

    Raises:
        BadInput: when it is none of these.

    Example:
        >>> [m["role"] for m in turns_of("hm?")], [m["content"] for m in turns_of(["Hi!", "Help me", "How?", "So."])]
        (['user'], ['Help me', 'How?', 'So.'])
    """
    if isinstance(context, str):
        return [{"role": "user", "content": context}] if context else []
    if not isinstance(context, Sequence) or not all(isinstance(m, str | Mapping) for m in context):
        raise BadInput("context", expected="a text, messages or utterances", received=f"{context!r:.80}")
    if all(isinstance(m, Mapping) for m in context):
        return [dict(m) for m in context]
    if not all(isinstance(m, str) for m in context):
        raise BadInput("context", expected="messages or utterances, not both", received=f"{context!r:.80}")
    kept = list(context)[1 - len(context) % 2:]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(kept)]


def mended(messages: Sequence[Message]) -> list[dict[str, Any]]:
    r"""What strict templates ask for: the user begins, and no role speaks twice in a row.

    Answers to nothing are dropped from the beginning, turns of one role are joined, and the words of a system message
    go into the first turn of the user.

    Example:
        >>> [(m["role"], m["content"]) for m in mended([{"role": "assistant", "content": "Hi!"},
        ...     {"role": "user", "content": "a"}, {"role": "user", "content": "b"}])]
        [('user', 'a\n\nb')]
    """
    system = [str(m.get("content") or "") for m in messages if m.get("role") == "system"]
    rest = [m for m in messages if m.get("role") != "system"]
    while rest and rest[0].get("role") == "assistant":
        rest = rest[1:]
    out: list[dict[str, Any]] = []
    for m in rest:
        if out and out[-1]["role"] == m.get("role"):
            out[-1]["content"] = f"{out[-1].get('content') or ''}\n\n{m.get('content') or ''}"
        else:
            out.append(dict(m))
    if system and out and out[0]["role"] == "user":
        out[0]["content"] = "\n\n".join([*system, str(out[0].get("content") or "")])
    return out


def exchanged(messages: Sequence[Message], opening: str) -> list[dict[str, Any]]:
    """The roles exchanged, behind an opening turn of the user.

    Example:
        >>> [m["role"] for m in exchanged([{"role": "user", "content": "hm?"}, {"role": "assistant", "content": "so"}],
        ...                               "Ask me.")]
        ['user', 'assistant', 'user']
    """
    head = [dict(m) for m in messages if m.get("role") == "system"]
    rest = [{**m, "role": _OTHER.get(str(m.get("role")), m.get("role"))} for m in messages
            if m.get("role") != "system"]
    return [*head, {"role": "user", "content": opening}, *rest]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
