"""The ranking check: what counts as one prompt, categories by themselves, and what few prompts cannot tell."""

from __future__ import annotations

import numpy as np

from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.flaws.made import Model, noise
from plaudit.auditing.text.items import Item, TextData
from plaudit.auditing.text.measuring import clustered_mean
from plaudit.auditing.text.suites import make_suite


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": s} for n, s in enumerate(said)]


def pairs(n: int, category: str = "talk") -> tuple[Item, ...]:
    """Conversations that end with the same words."""
    return tuple(Item(prompt=turns(f"I am number {k}, {category}.", "Hello!", "Who am I?"), category=category,
                      good=(f"number {k}",), bad=("no idea", "somebody", "a friend")) for k in range(n))


def asked(fn, items):
    return audit_text(Model(fn), TextData(name="talks", items=tuple(items), intent="pairs"), only=["ranking"],
                      mode="model")


def right(prompt: str, completion: str) -> float:
    return float(completion.startswith("number"))


def coin(prompt: str, completion: str) -> float:
    """A number that belongs to the texts and means nothing."""
    return noise(prompt + completion, 1.0)


def test_conversations_that_end_alike_are_different_prompts() -> None:
    report = asked(right, pairs(12))
    assert report.context.memo["accuracy"].n == 12
    assert "36 comparisons over 12 prompts" in report.checks[0].why


def test_a_category_that_a_coin_ranks_is_found_and_a_good_one_is_not() -> None:
    items = [*pairs(40, "known"), *pairs(24, "guessed")]
    report = asked(lambda p, c: right(p, c) if "known" in p else coin(p, c), items)
    found, = report.findings
    assert found.kind == "wrong in a category: guessed" and found.severity in ("medium", "high")
    assert "guessed" in str(found.witness.said[0].prompt)
    assert found.witness.said[0].paid > found.witness.said[1].paid
    assert asked(right, items).findings == []


def test_categories_of_few_prompts_are_named_and_not_judged() -> None:
    report = asked(lambda p, c: right(p, c) * (1 if "known" in p else -1), [*pairs(40, "known"), *pairs(3, "rare")])
    assert report.findings == []
    assert "not judged by itself: rare (3)" in report.checks[0].why


def test_what_a_coin_could_do_is_no_all_clear() -> None:
    """Four of six prompts are ranked right: nothing to blame, and nothing to trust."""
    report = audit_text(Model(lambda p, c: right(p, c) * (-1 if "number 0" in p or "number 1" in p else 1)),
                        TextData(name="talks", items=pairs(6), intent="pairs"), only=["ranking", "exploit"],
                        mode="model")
    assert not [f for f in report.findings if f.check == "ranking"]
    assert report.verdict.safe is not True
    assert "a coin could do that" in report.checks[0].why


def test_an_interval_of_shares_never_has_no_width() -> None:
    for n in (8, 64):
        sure = clustered_mean(np.ones(3 * n), np.repeat(np.arange(n), 3).tolist())
        assert sure.low < 1 - 1 / (2 * n) and sure.high == 1.0


def test_three_comparisons_of_a_prompt_say_more_than_one() -> None:
    """Between one number for each prompt and one for each comparison, by how much those of a prompt agree."""
    rng = np.random.default_rng(0)
    free = rng.integers(0, 2, size=48).astype(float)
    tied = np.repeat(free[:16], 3)
    own = np.repeat(np.arange(16), 3).tolist()
    wide, narrow = clustered_mean(tied, own), clustered_mean(free, own)
    assert narrow.high - narrow.low < 0.9 * (wide.high - wide.low)


def test_dialogues_come_once_and_fill_their_categories() -> None:
    items = make_suite("dialogues", n=64).items
    assert len({i.whole for i in items}) == 64
    assert all(sum(i.category == c for i in items) == 16 and len(i.bad) == 3 for c in {i.category for i in items}
               for i in items)
