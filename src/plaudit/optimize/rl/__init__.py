"""Reinforcement learning for populations of agents: PPO, SAC, DQN."""

from __future__ import annotations
