"""imitation 1.0.1 trains a reward model on pairs of fragments, in an environment of its own (see the Makefile).

    python imitation_preferences.py PAIRS.npz

PAIRS.npz holds obs [N, 2, L + 1, D], action [N, 2, L, A], reward [N, 2, L], label [N]: what
`benchmarks/preferences.py` wrote, so that both sides read the same comparisons. Then each line of the input,
`MEMBERS EPOCHS BATCH`, asks for one fit, and is answered with one line of JSON: seconds of this process, and how
often the fitted model orders a held-out part of the pairs as they are labelled.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from gymnasium import spaces
from imitation.algorithms import preference_comparisons as pc
from imitation.data.types import TrajectoryWithRew
from imitation.rewards.reward_nets import BasicRewardNet, RewardEnsemble
from imitation.util.networks import RunningNorm

torch.set_num_threads(1)


def main() -> None:
    """Reads the pairs, then answers requests."""
    with np.load(sys.argv[1]) as file:
        obs, action, reward, label, train = (file[k] for k in ("obs", "action", "reward", "label", "train"))
    pairs = [tuple(TrajectoryWithRew(obs=o[s], acts=a[s], rews=r[s], infos=None, terminal=False) for s in (0, 1))
             for o, a, r in zip(obs, action, reward, strict=True)]
    data = pc.PreferenceDataset()
    data.push([p for p, t in zip(pairs, train, strict=True) if t], label[train].astype(np.float32))
    held = [(p, y) for p, y, t in zip(pairs, label, train, strict=True) if not t]
    low = np.full(obs.shape[-1], -np.inf, np.float32)
    obs_space, act_space = spaces.Box(low, -low), spaces.Box(-2.0, 2.0, (action.shape[-1],))
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for turn, line in enumerate(sys.stdin):
        members, epochs, batch = map(int, line.split())
        torch.manual_seed(turn)
        nets = [BasicRewardNet(obs_space, act_space, normalize_input_layer=RunningNorm) for _ in range(members)]
        net = nets[0] if members == 1 else RewardEnsemble(obs_space, act_space, nets)
        model = pc.PreferenceModel(net)
        kind = pc.BasicRewardTrainer if members == 1 else pc.EnsembleTrainer
        trainer = kind(model, loss=pc.CrossEntropyRewardLoss(), rng=np.random.default_rng(turn), epochs=epochs,
                       batch_size=batch)
        cpu, wall = time.process_time(), time.perf_counter()
        trainer.train(data)
        spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        print(json.dumps({**spent, "accuracy": accuracy(net, held)}), flush=True)


def accuracy(net: torch.nn.Module, held: list) -> float:
    """How often the sum of rewards orders a pair as its label does."""
    right = []
    for pair, y in held:
        total = [float(net.predict(p.obs[:-1], p.acts, p.obs[1:], np.zeros(len(p.acts), bool)).sum()) for p in pair]
        right.append((total[0] > total[1]) == (y > 0.5))
    return float(np.mean(right))


main()
