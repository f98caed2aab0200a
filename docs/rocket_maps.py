"""What Lucy-SKG's reward pays in real Rocket League states: maps over the arena, and terms over recorded matches.

RocketSim plays matches of two scripted cars (`chaser`); one of their states is set into the arena again with the ball
(then the car) at every place of a grid, and read back. Needs the extra `rocket`, which pins numpy < 2:

    python -m venv rocket && rocket/bin/pip install 'torch' 'plaudit[rocket]'
    rocket/bin/python docs/rocket_maps.py --out docs/images
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plaudit.adapters.rlgym import episodes_of
from plaudit.auditing.map_figures import draw_maps, draw_statistics
from plaudit.auditing.maps import TOTAL, RewardMap, map_of, term_statistics
from plaudit.core.episodes import Episodes
from plaudit.specify import utility
from plaudit.specify.soccer import Pitch, events, utilities, utility_terms
from plaudit.tasks.rocket import BLUE, MOUTH, ORANGE, SIDE, FieldUU, RocketLeague, observe_state, place_cars, script

NAMES = ("aligned and near", "offensive potential")


def play_matches(arena: Any, matches: int, decisions: int, seed: int) -> list[list[Any]]:
    """The states of matches of two chasers, each up to a goal."""
    out = []
    for match in range(matches):
        base = arena.create_base_state()
        place_cars(base, np.random.default_rng([seed, match]))
        states = [arena.set_state(base, {})]
        while len(states) <= decisions and not states[-1].goal_scored:
            actions = {agent: np.tile(script(states[-1], agent), (8, 1)) for agent in (BLUE, ORANGE)}
            states.append(arena.step(actions, {}))
        out.append(states)
    return out


def over_grid(arena: Any, base: Any, place: Callable[[Any, float, float], None], pitch: Pitch,
              columns: int) -> RewardMap:
    """Sets the state into the arena once for each place, reads back what the car sees, and asks both rewards."""
    x = np.linspace(-SIDE + 250, SIDE - 250, columns)
    y = np.linspace(-FieldUU + 250, FieldUU - 250, round(columns * FieldUU / SIDE))
    seen = []
    for v in y:
        for u in x:
            state = copy.deepcopy(base)
            place(state, float(u), float(v))
            seen.append(observe_state(arena.set_state(state, {}), BLUE))
    obs = torch.from_numpy(np.stack(seen))
    values = {}
    for label, combine in (("sum", "linear"), ("KRC", "krc")):
        terms = utility_terms(pitch, combine=combine)
        for name, state in {"all": utilities(pitch, combine=combine), **{n: terms[n] for n in NAMES}}.items():
            values[f"{label}: {name}"] = map_of(utility(state), obs, x=x, y=y).values[TOTAL]
    return RewardMap(x=x, y=y, values=values)


def main() -> None:
    """Plays, maps, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--columns", type=int, default=41, help="places across the arena")
    parser.add_argument("--matches", type=int, default=30)
    parser.add_argument("--decisions", type=int, default=300, help="of each match at most (8 ticks each)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from rlgym.rocket_league.sim import RocketSimEngine

    arena = RocketSimEngine(rlbot_delay=False)
    matches = play_matches(arena, args.matches, args.decisions, args.seed)
    pitch = Pitch.of(RocketLeague())
    base = next(s for states in matches for s in states[20:] if s.cars[BLUE].on_ground and not s.goal_scored
                and np.linalg.norm(s.cars[BLUE].physics.linear_velocity) > 1200)
    car = base.cars[BLUE].physics
    car.position, car.linear_velocity = np.array([-1200, -1500, 17.0]), np.array([900, 1500, 0.0])
    car.euler_angles = np.array([0, np.arctan2(1500, 900), 0])

    def ball(state: Any, u: float, v: float) -> None:
        state.ball.position = np.array([u, v, 93.15])
        state.ball.linear_velocity = np.array([0.0, 0.0, 0.0])

    def player(state: Any, u: float, v: float) -> None:
        state.ball.position, state.ball.linear_velocity = np.array([600, 800, 93.15]), np.array([0.0, 600.0, 0.0])
        state.cars[BLUE].physics.position = np.array([u, v, 17.0])

    moved = {"ball": ball, "car": player}
    maps = {what: over_grid(arena, base, place, pitch, args.columns) for what, place in moved.items()}

    def arena_lines(axes: Any) -> None:
        for side in (-1, 1):
            axes.plot([-MOUTH, MOUTH], [side * (FieldUU - 260)] * 2, color="#22313a", lw=2.5)
        axes.set_xticks([])
        axes.set_yticks([])
        if axes.get_title().startswith("ball"):
            axes.annotate("", (-1200 + 540, -1500 + 900), (-1200, -1500), arrowprops={"arrowstyle": "->", "lw": 1.6})
        else:
            axes.plot(600, 800, "o", color="white", mec="#22313a", ms=6)

    figure = draw_maps(maps, columns=6, decorate=arena_lines, title="What a state of Rocket League is paid, by where "
                       "the ball is (above; the arrow is the car) and where the car is (below); blue attacks upwards")
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "rocket_maps.png", dpi=110)
    played = Episodes.cat([episodes_of(states, agent=agent) for states in matches for agent in (BLUE, ORANGE)])
    found = term_statistics(events(pitch) + utility(utilities(pitch), form="gain"), played)
    direct = term_statistics(utility(utilities(pitch)), played)
    draw_statistics(direct, title="The utilities over matches of two scripted cars").savefig(
        args.out / "rocket_terms.png", dpi=110)
    print(f"{len(matches)} matches, {direct.steps} steps; goals {int(played.info['goal'].sum())}; "
          f"return of events and gains {found.signed[-1]:+.3f}")
    for name, share, signed in zip(direct.names, direct.share, direct.signed, strict=True):
        print(f"  {name}: share {share:.2f}, return {signed:+.2f}")


if __name__ == "__main__":
    main()
