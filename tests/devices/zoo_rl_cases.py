"""Systems of the zoo whose agents and writers learn from rewards, on a device."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from running import case, main, near, runs_alike

from plaudit.optimize import Trained, train
from plaudit.zoo import heron, lucy_skg_krc, lucy_worlds, reward_robust_rlhf

HERON = replace(heron.SYSTEM.scales["smoke"], seeds=1, steps=(200, 200, 512), horizons=(15, 15, 15), factors=(2,) * 4,
                text_updates=3)
LUCY = replace(lucy_skg_krc.SYSTEM.scales["smoke"], steps=128, aux_steps=64, tune_steps=64, rollout=16,
               ablations=("less the opponent", "past actions", "attention"))
ROBUST = replace(reward_robust_rlhf.SYSTEM.scales["smoke"], seeds=1, worlds=2, exact_updates=3)


@case
def heron_by_ddpg_sac_and_ppo(device: str, folder: Path) -> None:
    runs_alike(heron.SYSTEM, HERON, device)


@case
def heron_by_other_learners_with_ensembles(device: str, folder: Path) -> None:
    runs_alike(heron.SYSTEM, replace(HERON, algos=("td3", "ppo", "dqn"), steps=(200, 512, 200), ensemble=2, fragment=2,
                                     changed=()), device)


@case
def lucy(device: str, folder: Path) -> None:
    """Also the agents themselves: so few matches end that curves alone say little."""
    found = list[Trained]()

    def watched(*args: Any, **options: Any) -> Trained:
        found.append(train(*args, **options))
        return found[-1]

    lucy_worlds.train = watched
    runs_alike(lucy_skg_krc.SYSTEM, LUCY, device)
    half = len(found) // 2
    for there, here in zip(found[:half], found[half:], strict=True):
        near(there.actor.net.flat.detach(), here.actor.net.flat.detach(), device)


@case
def robust_rewards(device: str, folder: Path) -> None:
    runs_alike(reward_robust_rlhf.SYSTEM, ROBUST, device)


@case
def robust_rewards_by_ppo_with_shared_targets(device: str, folder: Path) -> None:
    runs_alike(reward_robust_rlhf.SYSTEM, replace(ROBUST, algo="ppo", targets="shared", stage_two="mse",
                                                  centre="global"), device)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
