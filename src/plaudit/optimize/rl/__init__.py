"""Reinforcement learning for populations of agents: PPO, SAC, TD3, DQN."""

from __future__ import annotations
