"""For each flaw of classic control, MuJoCo and Box2D: a behaviour that exploits it and one that does what is intended.

The gaits were found by searching sines (cross-entropy method) for distance, and written down.
"""

from __future__ import annotations

import torch

from plaudit.auditing.flaws import demonstrations as do
from plaudit.auditing.flaws.demonstrations import Act, Demonstration, gait, hold, still


def _found(joints: int, numbers: list[float]) -> Act:
    """Offset, swing and phase of each joint, and the speed."""
    n = joints
    return gait(offset=numbers[:n], swing=numbers[n : 2 * n], phase=numbers[2 * n : 3 * n], speed=numbers[3 * n])


def _swims(lag: float) -> Act:
    return lambda obs, step: torch.sin(torch.tensor([0.0, lag]) + 0.3 * step).expand(len(obs), 2)


CHEETAH_RUNS = gait(offset=[0.0] * 6, swing=[0.6] * 6, phase=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], speed=0.628)
CHEETAH_SPRINTS = gait(offset=[0.0] * 6, swing=[0.6] * 6, phase=[4.6, 0.5, 2.2, 3.3, 2.7, 0.3], speed=0.6)
CHEETAH_BACKS = _found(6, [0.45, -0.53, -0.42, 0.52, 0.24, 0.21, 0.27, 0.77, -0.37, 1.05, 0.72, 0.38, -1.83, -0.51,
                           0.11, 1.41, 0.91, -1.31, 0.33])
CHEETAH_CRAWLS = _found(6, [-0.16, -0.17, 0.05, -0.17, -0.02, 0.05, -0.01, 0.05, 0.05, 0.47, 0.15, 0.37, 2.78, 0.37,
                            1.31, 3.37, 3.48, 1.62, 0.63])
ANT_WALKS = _found(8, [-0.4, -0.15, -0.52, -0.11, 0.15, -0.7, -0.04, 0.27, 0.49, 0.37, 0.62, 0.81, 0.52, 0.63, 0.65,
                       0.26, 1.54, -0.75, 0.15, -1.31, -2.05, 0.88, -1.61, 0.19, 0.61])
ANT_SHUFFLES = _found(8, [-0.05, 0.17, -0.15, 0.03, -0.12, 0.12, -0.6, 0.26, 0.33, 0.51, 0.3, 0.5, 0.08, 0.76, -0.11,
                          0.09, 0.47, 2.93, 0.56, -0.5, -2.85, -0.38, -0.04, 3.38, 0.39])
ANT_LEFT = _found(8, [-0.2, -0.64, -0.98, -0.3, 0.35, -0.69, -0.17, 0.51, 0.7, 0.46, 0.51, 0.74, 0.86, -0.12, 1.0,
                      -0.29, 2.83, 0.15, 1.22, 3.55, -0.92, 2.81, -0.04, -0.14, 0.61])
ANT_BACKS = _found(8, [0.04, -0.3, -0.37, -0.18, 0.09, -0.4, -0.08, -0.06, 0.56, 0.46, 0.51, 0.2, 0.36, 0.64, 0.85,
                       0.02, 3.03, 2.69, 1.56, 0.53, -0.63, 2.92, 3.92, 3.6, 0.5])
HOPPER_HOPS = _found(3, [-0.01, 0.08, 0.31, -0.14, 0.36, 0.09, -1.54, 1.87, 1.85, 0.49])
BIPED_WALKS = _found(4, [0.13, -0.86, -0.56, 0.42, 0.28, 0.31, 0.17, 0.36, 0.62, -0.8, -1.32, -0.19, 0.16])
WALKER_BACKS = _found(6, [0.57, 0.78, -0.23, 0.9, 0.62, -0.05, 0.4, 0.41, 0.45, 0.65, 0.95, 0.86, -0.4, -2.1, 3.1,
                          -1.01, 1.83, 0.19, 0.39])

WALKER_STEPS = _found(6, [0.4, -0.02, 0.92, 0.08, 0.76, 0.28, 0.59, -0.03, -0.14, 0.92, 0.6, 0.48, 9.32, -0.22, 6.27,
                          3.49, 2.15, 3.77, 0.4])
HOPPER_TOPPLES = _found(3, [0.28, 0.03, 0.21, 0.36, 0.35, -0.06, -1.63, 0.49, 0.26, 0.68])
SWIMS = _found(2, [-1.45, -0.07, 0.64, 0.37, 1.25, 0.46, 0.26])

DEMONSTRATIONS: dict[str, Demonstration] = {
    "oscillation": Demonstration(do.rock, do.pump),
    "oscillation/MountainCarContinuous-v0": Demonstration(do.as_force(do.rock), do.as_force(do.pump)),
    "wrong_frame": Demonstration(still(1), do.as_force(do.pump)),
    "wrong_unit": Demonstration(do.brake, do.swing_up),
    "speed_paid/MountainCar-v0": Demonstration(do.rock, do.pump),
    "paid_waiting/MountainCar-v0": Demonstration(do.push(1), do.pump),
    "paid_waiting/Acrobot-v1": Demonstration(do.push(1), do.swing_tip),
    "cost_only/CartPole-v1": Demonstration(do.push(1), do.balance),
    "drowned_goal/MountainCarContinuous-v0/3": Demonstration(still(1), do.as_force(do.pump)),
    "upside_down/Pendulum-v1": Demonstration(do.brake, do.swing_up),
    "paid_survival": Demonstration(still(3), hold(0.0, 0.0, 0.5)),
    "paid_survival/Walker2d-v5/0.02": Demonstration(still(6), WALKER_STEPS),
    "paid_survival/Ant-v5/0.02": Demonstration(still(8), ANT_WALKS),
    "balance/BipedalWalker-v3": Demonstration(still(4), BIPED_WALKS),
    "drowned": Demonstration(still(6), CHEETAH_RUNS),
    "drowned/Ant-v5/20": Demonstration(still(8), ANT_WALKS),
    "drowned/Swimmer-v5/2": Demonstration(still(2), _swims(1.5)),
    "wrong_sign": Demonstration(_swims(-1.5), _swims(1.5)),
    "wrong_sign/HalfCheetah-v5": Demonstration(CHEETAH_BACKS, CHEETAH_RUNS),
    "wrong_sign/Walker2d-v5": Demonstration(WALKER_BACKS, WALKER_STEPS),
    "unsigned_speed/Ant-v5": Demonstration(ANT_BACKS, ANT_SHUFFLES),
    "wrong_axis/Ant-v5": Demonstration(ANT_LEFT, ANT_WALKS),
    "clipped_speed/HalfCheetah-v5/0.1": Demonstration(CHEETAH_CRAWLS, CHEETAH_SPRINTS),
    "tall/Hopper-v5/10": Demonstration(HOPPER_TOPPLES, HOPPER_HOPS),
    "cost_only/InvertedPendulum-v5": Demonstration(hold(3.0), do.balance_cart),
    "cost_only/Hopper-v5": Demonstration(hold(-1.0, -1.0, -1.0), still(3)),
    "cost_only/Walker2d-v5": Demonstration(hold(*[-1.0] * 6), still(6)),
    "fleeing/Reacher-v5": Demonstration(do.flee, do.reach),
    "fleeing/Pusher-v5": Demonstration(hold(-1.0, *[0.0] * 6), hold(0.0, 1.0, *[0.0] * 5)),
    "waving/Reacher-v5": Demonstration(hold(0.3, 0.0), do.reach),
    "hovering/LunarLander-v3": Demonstration(do.hover, do.land),
    "fuel/LunarLander-v3/10": Demonstration(do.push(0), do.land),
    "wild/Ant-v5": Demonstration(still(8), ANT_WALKS),
}
"""By the flaw's name: what its reward prefers, and what was wanted."""
