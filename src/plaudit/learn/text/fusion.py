"""RewardFusion: what a model says of a text, averaged with what it says of the nearest texts it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens, of_texts
from plaudit.learn.text.embedding import Encoder


def fuse(value_N: Float[Tensor, "N"], query_ND: Float[Tensor, "N D"], index_M: Float[Tensor, "M"],
         index_MD: Float[Tensor, "M D"], *, top: int = 5, least: float = 0.9,
         leave_out_NM: Bool[Tensor, "N M"] | None = None) -> Float[Tensor, "N"]:
    """R(z) = sum_i w_i R(z_i), over z itself and its neighbours, w_i = cosine / (1 + sum of cosines).

    Args:
        value_N: The plain rewards of the queries.
        query_ND: Their unit vectors.
        index_M: The plain rewards of the indexed texts.
        index_MD: Their unit vectors.
        top: At most how many neighbours.
        least: The least cosine of a neighbour; a query without one keeps its plain reward.
        leave_out_NM: Neighbours that a query must not use, such as itself.

    Raises:
        BadInput: when top is negative, or least is not in (0, 1].

    Source:
        Shen et al. (2024), section 4.2.

    Example:
        >>> one, near = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> fuse(torch.tensor([0.0]), one, torch.tensor([4.0, 9.0]), near)
        tensor([2.])
    """
    if top < 0 or not 0 < least <= 1:
        raise BadInput("least", expected="a cosine in (0, 1], and top >= 0", received=(least, top))
    if not len(index_M) or not top:
        return value_N
    cosine = query_ND @ index_MD.T
    if leave_out_NM is not None:
        cosine = cosine.masked_fill(leave_out_NM, -torch.inf)
    best, at = cosine.topk(min(top, len(index_M)), dim=1)
    weight = torch.where(best >= least, best, 0.0)
    return (value_N + (weight * index_M[at]).sum(1)) / (1 + weight.sum(1))


class FusedReward(Reward):
    """A reward of texts, fused with those of the indexed texts; paid at the last token.

    Args:
        reward: What is fused; it is asked for the indexed texts once.
        encode: A sentence encoder of prompt and answer together.
        prompts: Of the indexed texts: those that the model was trained on.
        completions: Their answers.
        top: At most how many neighbours.
        least: The least cosine of a neighbour.
        standardise: Whether rewards are brought to mean 0 and deviation 1 over the index. A mean with weights that add
            up to 1 orders texts alike either way; the numbers differ.
        joined: Prompt and answer as one text.

    A text that stands in the index itself does not count as its own neighbour. Indexed texts of unknown reward are left
    out; an unknown reward of a query stays unknown.

    Raises:
        BadInput: when nothing of the index is known.

    Example:
        >>> from plaudit.learn.text.embedding import HashedEncoder
        >>> from plaudit.specify.text.functions import text_reward
        >>> longer = text_reward(lambda completion_text: float(len(completion_text)))
        >>> fused = FusedReward(longer, HashedEncoder(), ["name a bird"], ["a swan swims here"], least=0.3)
        >>> float(fused(of_texts(["name a bird"], ["a swan"]))) > 6  # the longer neighbour pulls
        True
    """

    needs = Needs(time="episode")

    def __init__(self, reward: Reward, encode: Encoder, prompts: Sequence[str], completions: Sequence[str], *,
                 top: int = 5, least: float = 0.9, standardise: bool = False,
                 joined: Callable[[str, str], str] = lambda prompt, answer: f"Question: {prompt}\n\nAnswer: {answer}",
                 name: str = "") -> None:
        self.reward, self.encode, self.top, self.least, self.joined = reward, encode, top, least, joined
        self.name = name or f"{reward.name}, fused"
        value, known = reward.score(of_texts(list(prompts), list(completions))).returns()
        if not bool(known.any()):
            raise BadInput("prompts", expected="texts that the reward knows", received=f"{len(prompts)}, all unknown")
        rows = torch.nonzero(known).flatten().tolist()
        prompts, completions = list(prompts), list(completions)
        self.texts = [joined(prompts[i], completions[i]) for i in rows]
        self.place: dict[str, list[int]] = {}
        for i, text in enumerate(self.texts):
            self.place.setdefault(text, []).append(i)
        self.value, self.unit = value[rows].float(), encode(self.texts)
        self.shift, self.scale = (float(self.value.mean()), float(self.value.std(unbiased=False)) or 1.0) \
            if standardise else (0.0, 1.0)

    def children(self) -> Sequence[Reward]:
        return (self.reward,)

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens):
            raise BadInput("episodes", expected="texts as Tokens", received=type(episodes).__name__)
        score = self.reward.score(episodes)
        value, known = score.returns()
        texts = [self.joined(p, c) for p, c in zip(episodes.columns["prompt_text"], episodes.columns["completion_text"],
                                                   strict=True)]
        own = torch.zeros(len(texts), len(self.texts), dtype=torch.bool)
        for n, text in enumerate(texts):
            own[n, self.place.get(text, [])] = True
        fused = fuse((value.float().nan_to_num() - self.shift) / self.scale, self.encode(texts),
                     (self.value - self.shift) / self.scale, self.unit, top=self.top, least=self.least,
                     leave_out_NM=own)
        last = torch.nn.functional.one_hot(episodes.last, episodes.T).bool() & episodes.mask
        paid = torch.where(known, fused, torch.nan).unsqueeze(-1)
        return Score.of(torch.where(last, paid, 0.0), mask=episodes.mask, why={
            f"{reason}": last & where.any(-1, keepdim=True) for reason, where in score.why.items()})
