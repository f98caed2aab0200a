"""The page of what was measured beside peers (docs/measured.md), from the rows of `benchmarks/results/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INTRO = """# Measured beside others

Ratios above 1 are in plaudit's favour. Both sides do the same work in turn in one run, on one thread, learning and
normalisation included, and the interval is over the repeats; returns on MuJoCo are of curves that each side recorded
once, over seeds, and were not made again after every change of the code. Rows in which plaudit is not better stand here
as well. `make bench` measures again; `benchmarks/` has both sides' scripts, and every row with its settings. This page
is written from `benchmarks/results/`.
"""
SECTIONS: Mapping[str, tuple[str, Sequence[tuple[str, str, str]]]] = {
    "Learning to act": ("ppo_cartpole.json", [
        ("ppo_cartpole_1", "PPO on CartPole-v1, one agent, compiled loops", "stable-baselines3"),
        ("ppo_cartpole_16", "the same, 16 agents together", "stable-baselines3, one agent"),
        ("ppo_cartpole_1_torch", "PPO, one agent, by autograd without compilation", "stable-baselines3"),
        ("ppo_cartpole_16_torch", "the same, 16 agents together", "stable-baselines3, one agent"),
        ("ppo_cartpole_solve", "time to a mean return of 475, both sides tuned alike", "stable-baselines3"),
        ("ppo_cartpole_solve_torch", "the same, without compilation", "stable-baselines3"),
        ("ppo_cartpole_solve_first", "the same, where the loops are compiled first (once on a machine)",
         "stable-baselines3")]),
    "Updates of SAC on HalfCheetah-v5": ("sac_update.json", [
        ("sac_update_1", "one agent", "stable-baselines3"),
        ("sac_update_3", "three agents together", "stable-baselines3, one agent")]),
    "Returns on MuJoCo": ("mujoco_learners.json", [
        ("ppo_halfcheetah", "PPO, HalfCheetah-v5, 500,000 steps", "stable-baselines3"),
        ("ppo_hopper", "PPO, Hopper-v5, 500,000 steps", "stable-baselines3"),
        ("sac_halfcheetah", "SAC, HalfCheetah-v5, 100,000 steps, uniform first weights", "stable-baselines3"),
        ("sac_halfcheetah_orthogonal", "the same, orthogonal first weights (the default)", "stable-baselines3"),
        ("sac_hopper", "SAC, Hopper-v5, 100,000 steps, uniform first weights", "stable-baselines3"),
        ("sac_hopper_orthogonal", "the same, orthogonal first weights (the default)", "stable-baselines3")]),
    "Rewards learnt from preferences": ("preferences.json", [
        ("preference_pairs", "pairs of trajectories, one network", "imitation"),
        ("preference_ensemble", "the same, an ensemble of 5", "imitation")]),
    "Distances between rewards": ("starc_tabular.json", [
        ("starc_tabular", "STARC over 1,000 MDPs of 32 states, compiled", "a NumPy loop in float64"),
        ("starc_tabular_plain", "the same, without compilation", "a NumPy loop in float64"),
        ("starc_sparse_grid", "canonical rewards of a grid world with 100,000 states", "a limit of 10 s"),
        ("starc_sparse_grid_minimal", "the same, minimal canonicalisation", "a limit of 10 s")]),
    "Scoring texts": ("text_scoring.json", [
        ("text_scoring", "completions of mixed lengths by a reward model", "rewardbench 0.1.4")]),
    "Training on texts": ("text_training.json", [
        ("text_training_shared", "pairs that share long prompts", "TRL 1.16 RewardTrainer"),
        ("text_training_long", "the same, longer prompts", "TRL 1.16 RewardTrainer"),
        ("text_training_unshared", "without sharing prompts", "TRL 1.16 RewardTrainer")]),
    "Serving": ("text_serving.json", [
        ("text_serving", "the HTTP service with 32 clients", "the same model without a service")]),
    "Bandits": ("bandits.json", [
        ("bandit_dynlin", "DynLin-UCB", "a NumPy loop, round by round"),
        ("bandit_ucb1", "UCB1", "SMPyBandits 0.9.7")]),
}


def markdown(results: Path) -> str:
    """The page; a row that was not measured is left out.

    Args:
        results: the folder of the rows.
    """
    parts = [INTRO]
    for title, (file, entries) in SECTIONS.items():
        rows = _rows(results / file)
        found = [(rows[name], what, peer) for name, what, peer in entries if name in rows]
        if found:
            parts += [f"## {title}\n", "| what | beside | ratio | plaudit | the other | unit |",
                      "| --- | --- | --- | --- | --- | --- |", *(_line(*one) for one in found), "",
                      f"{_machine(found)} (`benchmarks/{file.replace('.json', '.py')}`).\n"]
    return "\n".join([*parts, *_kills(_rows(results / "kills.json")), *_auditors(results / "text_auditors.json")])


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {row["name"]: row for row in (content if isinstance(content, list) else content["rows"])}


def _line(row: Mapping[str, Any], what: str, peer: str) -> str:
    interval = "" if row["interval"] is None else f" [{row['interval'][0]:.3g},&nbsp;{row['interval'][1]:.3g}]"
    return (f"| {what} | {peer} | **{row['ratio']:.3g}**{interval} | {_number(row['ours'])} | {_number(row['peer'])} "
            f"| {row['unit']} |")


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def _machine(found: Sequence[tuple[Mapping[str, Any], str, str]]) -> str:
    repeats = {row.get("seeds") or row.get("pairs") or row.get("repeats") for row, _, _ in found}
    numbers = sorted(n for n in repeats if n)
    times = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    what = "seeds" if "seeds" in found[0][0] else "repeats"
    return f"{found[0][0]['machine']}; {times} {what}"


def _kills(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if "kills" not in rows:
        return []
    total = rows["kills"]
    return ["## Runs that are killed\n", f"{total['kills']} kills at random moments struck {total['runs']} runs of "
            f"learners, an audit, the record and the zoo; after going on, {total['identical']} of {total['runs']} "
            "ended in the bytes of a run that nobody struck (`benchmarks/kills.py`).\n"]


def _auditors(path: Path) -> list[str]:
    if not path.is_file():
        return []
    table = json.loads(path.read_text(encoding="utf-8"))["table"]
    lines = [f"| {row['name']} | {row['flagged']} of {row['flaws']} | {row['cried']} of {row['healthy']} |"
             for row in table]
    return ["## Auditors of verifiers\n", "Planted flaws that each tool flags, and sound verifiers that it flags too. "
            "The flaws were written by plaudit's authors: read plaudit's row (findings of high severity) with that in "
            "mind; reward-doctor cannot be told of a format and refuses all answers in tags.\n",
            "| tool | flaws flagged | sound ones flagged |", "| --- | --- | --- |", *lines, "",
            "`benchmarks/text_auditors.py` runs them.\n"]
