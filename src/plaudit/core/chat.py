"""A tokenizer with its chat template: prompts and completions as token ids, once and in one place.

What a model reads is the whole conversation, rendered once by the template and tokenised once; that is also what a
server, a benchmark or a trainer will do with the saved model. So the whole comes first, and the seam between prompt and
completion is found in it:

- usually the prompt alone (with the words that open an answer) is a prefix of the whole, and what comes after it is
  the completion;
- where a token straddles the seam (`merge`), it belongs to the completion;
- where the template writes the prompt differently once something follows (`context`: earlier thinking is dropped, a
  turn is closed), the prompt is what the whole says before the completion's own words begin.

In each case `prompt_ids + completion_ids` is the whole, and all completions of one prompt have the same `prompt_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.tokens import Tokens, of_texts

Messages = Sequence[Mapping[str, Any]]
Text = str | Messages
"""A plain text, or a conversation as a list of messages."""
Seam = Literal["", "merge", "context"]
_PROBES = ("Ab", "zQ")
"""Contents without a common first letter: what two renderings share before them is the prompt."""


@dataclass(frozen=True)
class Encoded:
    """The ids of a prompt and of one of its completions; behind one another they are what a model reads."""

    prompt_ids: list[int]
    completion_ids: list[int]
    cut: int = 0
    """How many tokens were dropped so that the rest fits."""
    seam: Seam = ""
    """How the seam was found: empty where the prompt alone, as it opens an answer, is a prefix of the whole."""

    @property
    def ids(self) -> list[int]:
        """The whole."""
        return self.prompt_ids + self.completion_ids


@dataclass(frozen=True)
class ChatFormat:
    """How texts become token ids.

    Raises:
        BadInput: for a tokenizer without a pad token, with the line that mends it.
    """

    tokenizer: Any
    """A tokenizer of transformers."""
    max_length: int | None = None
    """The most tokens of a prompt and its completion together."""
    truncation: Literal["left", "right", "refuse"] = "left"
    """Where what is too long is cut: the beginning (of the prompt first), the end, or not at all but with an error."""
    add_eos: bool = True
    """Whether a plain text is closed with the end token; conversations end as their template says."""
    as_chat: bool = False
    """Whether plain texts are said by a user and an assistant, in the words of the template."""
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the template reads beside messages and tools, such as `{"enable_thinking": False}`."""

    def __post_init__(self) -> None:
        if getattr(self.tokenizer, "pad_token_id", None) is None:
            raise BadInput("tokenizer", expected="one with a pad token", received=_name(self.tokenizer),
                           fix="set tokenizer.pad_token to a token that no text contains (such as a reserved one; "
                               "tokenizer.eos_token if there is none) and model.config.pad_token_id to its id")
        if self.truncation not in ("left", "right", "refuse"):
            raise BadInput("truncation", expected="left, right or refuse", received=self.truncation)
        if self.max_length is not None and self.max_length < 2:
            raise BadInput("max_length", expected="at least 2 tokens, or None", received=self.max_length)

    @staticmethod
    def load(path: str | Path, **options: Any) -> ChatFormat:
        """The tokenizer of a checkpoint folder (or a name on the hub), without running its code.

        Raises:
            BadInput: where there is none, or none with a pad token.
        """
        auto = require("transformers", extra="text").AutoTokenizer
        try:
            tokenizer = auto.from_pretrained(str(path), trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = " ".join(str(error).split())[:200]
            raise BadInput("tokenizer", expected="the folder of a tokenizer, or a name on the hub",
                           received=f"{path} ({type(error).__name__}: {said})") from None
        return ChatFormat(tokenizer, **options)

    def encode(self, prompt: Text, completion: Text, *, tools: Sequence[Any] | None = None) -> Encoded:
        """One completion; `tools` are described to the model by templates that can.

        Raises:
            BadInput: for a conversation that the template refuses or where there is none, or a text that is too long
                where `truncation` is "refuse".
        """
        return self.encode_options(prompt, [completion], tools=tools)[0]

    def encode_options(self, prompt: Text, completions: Sequence[Text], *,
                       tools: Sequence[Any] | None = None) -> list[Encoded]:
        """Several completions of one prompt, which all keep the same part of it: the longest one decides the cut."""
        parts = [self._parts(prompt, c) for c in completions]
        wholes = [self._ids(asked, said, tools=tools) for asked, said in parts]
        known: dict[bool, list[int] | None] = {}
        seams = [self._seam(asked, said, ids, tools, known) for (asked, said), ids in zip(parts, wholes, strict=True)]
        at = min((n for n, _ in seams), default=0)
        at = min((_shared(wholes[0][:at], ids) for ids in wholes), default=0)
        moved: Seam = "merge" if "merge" in {kind for _, kind in seams} else "context"
        return self._cut([Encoded(ids[:at], ids[at:], seam=kind or ("" if n == at else moved))
                          for ids, (n, kind) in zip(wholes, seams, strict=True)])

    def prompt_ids(self, prompt: Text, *, tools: Sequence[Any] | None = None) -> list[int]:
        """A prompt alone, with the words that open an answer: what a policy goes on from. Nothing is cut.

        Raises:
            BadInput: for a conversation that the template refuses or where there is none.
        """
        asked, _ = self._parts(prompt, "")
        return self._ids(asked, "" if isinstance(asked, str) else [], opened=True, tools=tools)

    def text(self, prompt: Text, completion: Text) -> str:
        """The whole as one string: what a server that takes whole texts is asked.

        Raises:
            BadInput: for a conversation that the template refuses or where there is none.
        """
        asked, said = self._parts(prompt, completion)
        if isinstance(asked, str) and isinstance(said, str):
            return asked + said
        return self.render([*asked, *said])  # type: ignore[list-item]

    def tokens(self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]) -> Tokens:
        """Rows of prompts and completions as `Tokens`; the column `cut` counts what was dropped of each."""
        rows = [self.encode(p, c) for p, c in zip(prompts, completions, strict=True)]
        return of_texts(prompts, completions, [r.completion_ids for r in rows],
                        prompt_ids=[r.prompt_ids for r in rows], cut=[r.cut for r in rows], **columns)

    # --- internals -----------------------------------------------------------------------------

    def _parts(self, prompt: Text, completion: Text) -> tuple[Text, Text]:
        """Both as plain texts or both as messages."""
        _check_text("prompt", prompt)
        _check_text("completion", completion)
        if isinstance(prompt, str) and isinstance(completion, str) and not self.as_chat:
            return prompt, completion
        asked = ([{"role": "user", "content": prompt}] if prompt else []) if isinstance(prompt, str) else list(prompt)
        said = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
        return asked, said

    def _ids(self, asked: Text, said: Text, *, opened: bool = False, tools: Sequence[Any] | None = None) -> list[int]:
        """The whole as ids; with `opened`, up to the words that open an answer."""
        if isinstance(asked, str) and isinstance(said, str):
            before, after = self._around
            ids = before + self._plain(asked + said)
            return ids if opened else ids + (after or self._end(ids))
        return self._plain(self.render([*asked, *said], opened=opened, tools=tools))  # type: ignore[list-item]

    def _end(self, ids: list[int]) -> list[int]:
        eos = self.tokenizer.eos_token_id
        return [eos] if self.add_eos and eos is not None and ids[-1:] != [eos] else []

    def render(self, messages: Messages, *, opened: bool = False, tools: Sequence[Any] | None = None) -> str:
        """What the template makes of messages; with `opened`, and of the beginning of an answer."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise BadInput("tokenizer", expected="one with a chat template, as the data are conversations",
                           received=_name(self.tokenizer),
                           fix="set tokenizer.chat_template (the model's card has it), or pass plain texts")
        try:
            return self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opened,
                                                      tools=tools, **self.template_options)
        except Exception as error:  # a template raises whatever its author thought of
            raise BadInput("conversation", expected="what the chat template takes", fix="change the messages or the "
                           "template", received=f"roles {[m.get('role') for m in messages]} "
                                                f"({type(error).__name__}: {error})") from error

    def _seam(self, asked: Text, said: Text, whole: list[int], tools: Sequence[Any] | None,
              known: dict[bool, list[int] | None]) -> tuple[int, Seam]:
        """How many ids of the whole are the prompt's, and how that was found; `known` are prompts alone."""
        opens = isinstance(said, str) or (bool(said) and said[0].get("role") == "assistant")
        if opens not in known:
            known[opens] = self._alone(asked, opens, tools)
        alone = known[opens]
        if alone is not None:
            shared = _shared(alone, whole)
            if shared == len(alone):
                return shared, ""
            if isinstance(said, str) or self._begins(asked, said, tools):  # type: ignore[arg-type]
                return shared, "merge"
        elif isinstance(said, str):
            return len(self._around[0]), ""
        return self._context(asked, said, whole, tools)  # type: ignore[arg-type]

    def _alone(self, asked: Text, opens: bool, tools: Sequence[Any] | None) -> list[int] | None:
        """The ids of a prompt as it opens an answer; None where there is none."""
        try:
            return self._ids(asked, "" if isinstance(asked, str) else [], opened=opens, tools=tools) if asked else None
        except BadInput:  # a template may refuse a prompt that has no user's turn yet
            return None

    def _begins(self, asked: Messages, said: Messages, tools: Sequence[Any] | None) -> bool:
        """Whether the template writes the prompt as it would write it alone."""
        opens = bool(said) and said[0].get("role") == "assistant"
        return self.render([*asked, *said], tools=tools).startswith(self.render(asked, opened=opens, tools=tools))

    def _context(self, asked: Messages, said: Messages, whole: list[int],
                 tools: Sequence[Any] | None) -> tuple[int, Seam]:
        """The prompt as it stands in the whole: what stays the same when the first words of the completion change."""
        if not said:
            return len(whole), "context"
        for probe in _PROBES:
            other = [{"role": said[0].get("role"), "content": probe}, *said[1:]]
            whole = whole[:_shared(self._ids(asked, other, tools=tools), whole)]
        return len(whole), "context"

    def _cut(self, options: list[Encoded]) -> list[Encoded]:
        limit = self.max_length
        longest = max((len(o.ids) for o in options), default=0)
        if limit is None or longest <= limit:
            return options
        if self.truncation == "refuse":
            raise BadInput("completion", expected=f"at most {limit} tokens with its prompt", received=longest,
                           fix="raise max_length, or choose truncation='left' or 'right'")
        out: list[Encoded] = []
        for o in options:
            P = len(o.prompt_ids)
            if self.truncation == "right":
                asked, said = o.prompt_ids[:limit], o.completion_ids[:max(limit - P, 0)]
            else:
                asked, said = o.prompt_ids[min(longest - limit, P):], o.completion_ids[-limit:]
            out.append(Encoded(asked, said, cut=len(o.ids) - len(asked) - len(said), seam=o.seam))
        return out

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and behind a text."""
        bare, full = self._plain("a"), list(self.tokenizer("a")["input_ids"])
        starts = [i for i in range(len(full) - len(bare) + 1) if full[i:i + len(bare)] == bare]
        return (full[:starts[0]], full[starts[0] + len(bare):]) if starts else ([], [])


def _check_text(name: str, text: Any) -> None:
    if isinstance(text, str):
        return
    if not isinstance(text, Sequence) or not all(isinstance(m, Mapping) for m in cast("Sequence[Any]", text)):
        raise BadInput(name, expected="a text or a list of messages", received=f"{text!r:.80}")


def _shared(a: list[int], b: list[int]) -> int:
    """The length of the common prefix."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), shorter)


def _name(tokenizer: Any) -> str:
    return f"{type(tokenizer).__name__} of {getattr(tokenizer, 'name_or_path', '') or 'no name'}"
