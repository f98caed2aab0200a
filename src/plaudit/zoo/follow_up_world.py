"""A world of short dialogues for experiments 2 and 3: requests, answers with known flaws, and what users say next.

A request names a topic and a form. An answer may be off topic, in the wrong form, or say half of what it could. The
next words of the user come from the follow-ups of the category that is flawed, or thank; on the web (where the base
model learns) users often say something else, in feedback (where it is tuned) they say what they think.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plaudit.core.chat import ChatFormat
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.feedback.text.spoken import SpokenFeedback
from plaudit.learn.text.follow_ups import FollowUps
from plaudit.learn.text.likelihood import LanguageModel
from plaudit.learn.text.models import tiny_llama
from plaudit.learn.text.packing import pad
from plaudit.learn.text.turns import NextTurn

TOPICS: Mapping[str, tuple[str, ...]] = {
    "cats": ("whiskers", "purring", "mice", "naps"), "boats": ("sails", "harbours", "anchors", "waves"),
    "bread": ("flour", "ovens", "crusts", "yeast")}
REQUESTS = ("Tell me about {topic}{form}.", "What belongs to {topic}? Answer{form}.", "Describe {topic}{form}.")
HELD_OUT = "Write about {topic}{form}."
"""The wording of requests that nothing is mined from."""
FORMS: Mapping[str, tuple[str, str]] = {"sentence": (" in a sentence", "Think of {words}."),
                                        "list": (" in a list", "* {words}")}
CATEGORIES = ("relevance", "instruction following", "informativeness")
"""Off topic, in the wrong form, half said."""
OPENING = "Ask me."


@dataclass(frozen=True)
class Request:
    """What is asked."""

    topic: str
    form: str
    wording: str

    @property
    def text(self) -> str:
        """In words."""
        return self.wording.format(topic=self.topic, form=FORMS[self.form][0])


def follow_ups(each: int) -> FollowUps:
    """The packaged ones of the categories of this world."""
    return FollowUps.load().of_categories(CATEGORIES).take(each)


def requests(held_out: bool = False) -> list[Request]:
    """All of them; those of the held-out wording."""
    return [Request(t, f, w) for w in ((HELD_OUT,) if held_out else REQUESTS) for t in TOPICS for f in FORMS]


def answer(request: Request, flaws: Sequence[str], rng: np.random.Generator) -> str:
    """An answer with exactly these flaws."""
    topics, forms = list(TOPICS), list(FORMS)
    topic = request.topic if "relevance" not in flaws else str(rng.choice([t for t in topics if t != request.topic]))
    form = request.form if "instruction following" not in flaws else forms[1 - forms.index(request.form)]
    some = rng.permutation(TOPICS[topic])[:1 if "informativeness" in flaws else 2]
    return FORMS[form][1].format(words=(" * " if form == "list" else " and ").join(some))


def flaws_of(request: Request, text: str) -> list[str]:
    """The flaws of any text, by rule; one without a word of any topic has all of them.

    Example:
        >>> ask = Request("cats", "sentence", HELD_OUT)
        >>> flaws_of(ask, "Think of naps and mice."), flaws_of(ask, "* snow")
        ([], ['relevance', 'instruction following', 'informativeness'])
    """
    words = re.findall(r"[a-z]+", text)
    known = {w for some in TOPICS.values() for w in some}
    mine = [w for w in words if w in known]
    formed = {"sentence": re.fullmatch(r"Think of [a-z]+( and [a-z]+)*\.", text),
              "list": re.fullmatch(r"\* [a-z]+( \* [a-z]+)*", text)}[request.form]
    good = (bool(mine) and all(w in TOPICS[request.topic] for w in mine), formed is not None, len(set(mine)) >= 2)
    return [name for name, fine in zip(CATEGORIES, good, strict=True) if not fine]


def said_next(flaws: Sequence[str], bank: FollowUps, rng: np.random.Generator, *, honest: float) -> str:
    """A follow-up: with probability `honest` about a flaw, or thanks where there is none; any otherwise."""
    if rng.random() >= honest:
        return str(rng.choice(bank.texts))
    if flaws:
        return str(rng.choice(bank.banks[str(rng.choice(list(flaws)))].negative))
    return str(rng.choice(bank.banks[str(rng.choice(list(bank.banks)))].positive))


def dialogues(n: int, bank: FollowUps, rng: np.random.Generator, *, honest: float,
              flawed: float = 0.3) -> list[SpokenFeedback]:
    """Requests, answers in which each flaw has probability `flawed`, and what is said next."""
    every, out = requests(), list[SpokenFeedback]()
    for _ in range(n):
        request = every[int(rng.integers(len(every)))]
        flaws = [c for c in CATEGORIES if rng.random() < flawed]
        out.append(SpokenFeedback(request.text, answer(request, flaws, rng), said_next(flaws, bank, rng,
                                                                                       honest=honest)))
    return out


def held_out_pairs(n: int, rng: np.random.Generator) -> list[Preference]:
    """For each category n pairs of an answer without a flaw and one with this flaw alone, to held-out wordings."""
    every = requests(held_out=True)
    out = list[Preference]()
    for category in CATEGORIES:
        for _ in range(n):
            request = every[int(rng.integers(len(every)))]
            out.append(Preference(options=(answer(request, (), rng), answer(request, (category,), rng)), label=1.0,
                                  context=request.text, provenance={"category": category}))
    return out


def pretrained(folder: Path, bank: FollowUps, seeds: Seeds, *, dialogues_seen: int, steps: int, honest: float,
               hidden: int, batch: int = 16, lr: float = 4e-3, device: str = "cpu") -> Path:
    """A tiny language model of whole dialogues: it writes answers as people do, and foretells users a little."""
    words = " ".join(w for some in TOPICS.values() for w in some)
    lines = [r.text for r in (*requests(), *requests(held_out=True))]
    corpus = [words, " ".join(TOPICS), *lines, *(f" {t}" for t in bank.texts), OPENING,
              *(a for _, a in FORMS.values())] * 3
    path = tiny_llama(folder, hidden=hidden, layers=2, vocab=720, context=128, seed=seeds.integer() % 2**31,
                      corpus=corpus)
    language = LanguageModel.load(path, device=device, share=False)
    with torch.no_grad():  # so narrow a model begins too quietly
        for p in language.model.parameters():
            p.mul_(4.0 if p.ndim == 2 else 1.0)
    rng = seeds.child("dialogues").numpy()
    rows = rows_of(ChatFormat(language.tokenizer, as_chat=True), bank, dialogues_seen, rng, honest=honest)
    fit(language.model.train(), rows, steps=steps, batch=batch, lr=lr, rng=rng)
    language.model.eval().save_pretrained(str(path))
    return path


def rows_of(form: ChatFormat, bank: FollowUps, n: int, rng: np.random.Generator, *, honest: float) -> list[list[int]]:
    """Dialogues as tokens, the end token behind them."""
    turn = NextTurn(form)
    return [[*turn.encode(d.prompt, d.response, [d.feedback]).ids[0], int(form.tokenizer.eos_token_id)]
            for d in dialogues(n, bank, rng, honest=honest)]


def fit(model: Any, rows: Sequence[Sequence[int]], *, steps: int, batch: int, lr: float,
        rng: np.random.Generator) -> None:
    """Every token foretells the next one; the step size rises and falls to 0."""
    adam = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for step in range(steps):
        made = pad([rows[int(i)] for i in rng.integers(len(rows), size=batch)], 0).to(model.device)
        logits = model(input_ids=made.ids_ML, attention_mask=made.mask_ML, use_cache=False).logits[:, :-1]
        target = torch.where(made.mask_ML[:, 1:] > 0, made.ids_ML[:, 1:], -100)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        for group in adam.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20) * 0.5 * (1 + np.cos(np.pi * step / steps))
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
