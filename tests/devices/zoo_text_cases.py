"""Systems of the zoo on texts, which must find on a device what they find on the CPU: see `running`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from running import case, main, networks_on, runs_alike

from plaudit.core.seeds import Seeds
from plaudit.learn.text import likelihood
from plaudit.zoo import (
    contrast_instructions,
    domain_feature_rm,
    follow_up_likelihood,
    helpsteer2_preference,
    rewardmath,
    secrets_rlhf_rm,
    tree_reward_topology,
)
from plaudit.zoo.review_models import make_pool


@case
def helpsteer2(device: str, folder: Path) -> None:
    system = helpsteer2_preference.SYSTEM
    runs_alike(system, replace(system.scales["smoke"], seeds=1, rates=(1e-3,), align_seeds=1), device)


@case
def contrast(device: str, folder: Path) -> None:
    system = contrast_instructions.SYSTEM
    runs_alike(system, replace(system.scales["smoke"], seeds=1, encoder="minilm"), device)


@case
def tree(device: str, folder: Path) -> None:
    system = tree_reward_topology.SYSTEM
    runs_alike(system, replace(system.scales["smoke"], seeds=1), device)


@case
def reward_math(device: str, folder: Path) -> None:
    system = rewardmath.SYSTEM
    runs_alike(system, replace(system.scales["smoke"], seeds=1), device)


@case
def secrets(device: str, folder: Path) -> None:
    system = secrets_rlhf_rm.SYSTEM
    runs_alike(system, replace(system.scales["smoke"], seeds=1, meta_seeds=1), device)


@case
def follow_ups(device: str, folder: Path) -> None:
    system = follow_up_likelihood.SYSTEM
    with patch.object(likelihood, "_same", lambda *_: True):  # a look at a model on the host before it learns elsewhere
        runs_alike(system, system.scales["smoke"], device)


@case
def domain_features(device: str, folder: Path) -> None:
    system = domain_feature_rm.SYSTEM
    config = replace(system.scales["smoke"], seeds=1)
    runs_alike(system, config, device)
    with networks_on(device):  # the axes of its embeddings turn with rounding, so models of them are not compared
        make_pool(replace(config, encoder="minilm"), Seeds(0), device)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
