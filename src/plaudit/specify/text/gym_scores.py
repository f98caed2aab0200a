"""The score that a task of reasoning-gym gives an answer; imported by worker processes when they start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plaudit.core.extras import require
from plaudit.specify.text.answers import AnswerFormat

reasoning_gym: Any = require("reasoning_gym", extra="suites")


@dataclass(frozen=True)
class GymScore:
    """What `ReasoningGym` asks of each completion."""

    format: AnswerFormat
    task: str | None

    def __call__(self, completion_text: str, answer: Any, metadata: Any = None, question: str = "") -> float | None:
        about = dict(metadata or {})
        task = self.task or about.get("source_dataset")
        if not task:
            raise ValueError("neither the reward nor the row's metadata names a task of reasoning-gym")
        found = self.format.find(completion_text)
        entry = {"question": question, "answer": answer, "metadata": about}
        return float(reasoning_gym.get_score_answer_fn(task)(found[-1].strip() if found else None, entry))
