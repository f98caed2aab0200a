"""Texts as episodes, and functions of texts as rewards: what the adapters of language-model trainers need."""

from __future__ import annotations

from plaudit.adapters.text.episodes import TextEpisodes, of_texts
from plaudit.adapters.text.rewards import TextReward, text_reward

__all__ = ["TextEpisodes", "TextReward", "of_texts", "text_reward"]
