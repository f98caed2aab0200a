"""Hunters on workers, and hunters whose finds are kept: the same numbers as one after the other in one go.

After random behaviour and the scripts, two branches know nothing of each other: PPO, and cross-entropy with
quality-diversity behind it. A worker plays the cheap beginning again, which gives it the same lens and the same
seeds, and then sends out its branch alone. What PPO will spend is known before it runs; evolution books it. A search
that is kept writes down what each branch brought, and reads it where an earlier one had come so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from plaudit.core.cluster import Cluster
from plaudit.core.errors import Unsupported
from plaudit.core.jobs import Kept, run_jobs
from plaudit.core.seeds import Seeds
from plaudit.optimize.evolve.families import Family, FamilyPolicy, Lens, Network, Rhythm, Segments, Table
from plaudit.optimize.hunting.arena import Arena, Candidate
from plaudit.optimize.hunting.learnt import config_for, ppo_steps, tastes
from plaudit.optimize.parcels import pack_reward, pack_state, unpack_reward, unpack_state, unpack_task
from plaudit.optimize.rl.ppo import PPO
from plaudit.optimize.rl.trained import LearnedPolicy

if TYPE_CHECKING:
    from plaudit.optimize.maximise import Search

EVOLVED = ("cem", "qd")


def hunt_on_ray(search: Search, ray: Cluster | str | bool, kept: Kept | None = None) -> None:
    """Sends the hunters of a fresh search out: the first ones here, then both branches on workers.

    Raises:
        Unsupported: when the task or the reward cannot be written down, or the reward changes while it is asked.
    """
    arena, order = search.arena, _order(search)
    for name in ("random", "scripted", "planned"):
        search.send_out(name)
    learns = "ppo" in search.names
    promised = _promised(search) if learns else 0
    branches = [["ppo"]] * learns + [list(EVOLVED)] * any(name in search.names for name in EVOLVED)
    jobs = [{**order, "hunters": hunters, "ppo_spends": promised} for hunters in branches]

    def run(jobs: list[dict[str, Any]]) -> list[Any]:
        names = [f"{job['hunters'][0]} for {arena.reward.name}" for job in jobs]
        found = run_jobs(hunt_branch, jobs, ray=ray, names=names, folder=kept, progress=lambda done, text: search.say(
            0.05 + 0.85 * done, f"searched by {text}"))
        return [unpack_state(parcel) for parcel in found]

    found = dict(zip([job["hunters"][0] for job in jobs], run(jobs), strict=True))
    if learns and found["ppo"]["spent"]["ppo"] != promised and "cem" in found:  # it failed: its steps flow on
        found["cem"], = run([{**jobs[-1], "ppo_spends": found["ppo"]["spent"]["ppo"]}])
    for branch in found.values():
        _merge(search, branch)


def hunt_kept(search: Search, kept: Kept) -> None:
    """Sends the hunters out one after the other; what each branch brought is kept, or found again.

    Raises:
        Unsupported: as for `hunt_on_ray`, before anything is searched.
    """
    order, arena = _order(search), search.arena
    for names in (("random",), ("scripted",), ("planned",), ("ppo",), EVOLVED):
        key, chosen = [order, list(names)], any(name in search.names for name in names)
        is_branch = chosen and names in (("ppo",), EVOLVED)
        parcel = kept.get(key) if is_branch else None
        if parcel is not None:
            branch = unpack_state(parcel[0])
            _merge(search, branch)
            search.saved = branch["saved"]
            continue
        before, spent, work, left_out = len(search.candidates), arena.spent, arena.work, dict(search.left_out)
        for name in names:
            search.send_out(name)
        if is_branch:
            kept.put(key, pack_state({
                "candidates": _packed(search.candidates[before:]), "lens": _pack_lens(arena.lens),
                "left_out": {n: why for n, why in search.left_out.items() if n not in left_out},
                "spent": {n: search.spent[n] for n in names if n in search.spent}, "saved": search.saved,
                "steps": arena.spent - spent, "work": arena.work - work}))


def _order(search: Search) -> dict[str, Any]:
    """All that a branch depends on, as JSON."""
    arena = search.arena
    if arena.reward.needs.state != "none":
        raise Unsupported(f"{arena.reward.name} {arena.reward.needs.state} what it is asked, so hunters cannot work "
                          "apart; search in one process")
    return {"task": arena.task.spec(), "reward": pack_reward(arena.reward), "steps": arena.steps,
            "horizon": arena.horizon, "batch_cost": arena.batch_cost, "root": arena.seeds.root,
            "path": list(arena.seeds.path), "plan": search.plan, "names": list(search.names),
            "discount": search.discount, "device": arena.device}


def hunt_branch(*, task: Mapping[str, Any], reward: Mapping[str, Any], steps: int, horizon: int, batch_cost: int,
                root: int, path: list[str | int], plan: dict[str, int], names: list[str], discount: float,
                hunters: list[str], ppo_spends: int, device: str) -> str:
    """One branch of a search, from JSON: what a worker runs."""
    from plaudit.optimize.maximise import Search

    arena = Arena(unpack_task(task), unpack_reward(reward), steps=steps, horizon=horizon,
                  seeds=Seeds(root, tuple(path)), batch_cost=batch_cost, device=device)
    search = Search(arena, plan, names, {}, discount=discount, tabular=None, say=lambda done, text: None)
    try:
        for name in ("random", "scripted"):
            search.send_out(name)
        if hunters != ["ppo"] and "ppo" in names:
            search.book("ppo", ppo_spends)
        before, spent, work = len(search.candidates), arena.spent, arena.work
        search.left_out.clear()
        for name in hunters:
            search.send_out(name)
    finally:
        arena.close()
    return pack_state({
        "candidates": _packed(search.candidates[before:]), "lens": _pack_lens(arena.lens), "left_out": search.left_out,
        "spent": {name: search.spent.get(name, 0) for name in hunters if name in names},
        "steps": arena.spent - spent, "work": arena.work - work})


def _promised(search: Search) -> int:
    """The steps that PPO will take with its purse."""
    planned = ppo_steps(search.purse("ppo").left, search.discount, cheap=search.arena.cheap)
    return 0 if planned is None else len(planned[0]) * planned[1]


def _merge(search: Search, branch: Mapping[str, Any]) -> None:
    arena = search.arena
    search.candidates += _unpacked(branch["candidates"], arena, search.discount)
    search.left_out.update(branch["left_out"])
    search.spent.update(branch["spent"])
    arena.charge(branch["steps"], work=branch["work"])
    if "ppo" not in branch["spent"]:
        arena.lens = _lens(branch["lens"], arena)


# --- candidates as parcels ----------------------------------------------------------------------------------


def _packed(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Candidates with their policies; families and lenses that several share stay shared."""
    lenses: dict[int, dict[str, Tensor]] = {}
    families: dict[int, dict[str, Any]] = {}
    rows = []
    for c in candidates:
        rows.append({"name": c.name, "origin": c.origin, "effort": c.effort, "score": c.score, "feature": c.feature_F,
                     "length": c.length, "keep": c.keep, "policy": _pack_policy(c.policy, families, lenses)})
    return {"rows": rows, "families": {str(k): v for k, v in families.items()},
            "lenses": {str(k): v for k, v in lenses.items()}}


def _pack_policy(policy: Any, families: dict[int, dict[str, Any]], lenses: dict[int, dict[str, Tensor]]) -> Any:
    if isinstance(policy, LearnedPolicy):
        return {"actor": policy.actor.state_dict(), "deterministic": policy.deterministic, "seed": policy.seed}
    assert isinstance(policy, FamilyPolicy)
    family = policy.family
    if id(family) not in families:
        families[id(family)] = _pack_family(family)
        if isinstance(family, Network):
            lenses[id(family.lens)] = _pack_lens(family.lens)
    return {"family": str(id(family)), "theta": policy.theta_KN}


def _pack_family(family: Family) -> dict[str, Any]:
    if isinstance(family, Network):
        return {"kind": "network", "lens": str(id(family.lens)), "hidden": family.hidden}
    if isinstance(family, Rhythm | Table):
        return {"kind": "rhythm" if isinstance(family, Rhythm) else "table", "longest": family.longest}
    assert isinstance(family, Segments)
    return {"kind": "segments", "segments": family.segments, "longest": family.longest}


def _pack_lens(lens: Lens) -> dict[str, Tensor]:
    return {"mean": lens.mean, "scale": lens.scale}


def _lens(parcel: Mapping[str, Tensor], arena: Arena) -> Lens:
    lens = Lens(arena.lens.encoder)
    lens.mean, lens.scale = parcel["mean"], parcel["scale"]
    return lens


def _unpacked(parcel: Mapping[str, Any], arena: Arena, discount: float) -> list[Candidate]:
    lenses = {k: _lens(lens, arena) for k, lens in parcel["lenses"].items()}
    families = {k: _family(options, lenses, arena) for k, options in parcel["families"].items()}
    template: PPO | None = None
    found = []
    for row in parcel["rows"]:
        kept = row["policy"]
        if "family" in kept:
            policy: Any = families[kept["family"]].policy(kept["theta"])
        else:
            if template is None:
                taste = tastes(discount, cheap=arena.cheap)[:1]
                template = PPO(config_for(taste, cheap=arena.cheap), arena.task, seeds=[Seeds(0)])
            actor = template.actor.select([0])
            actor.load_state_dict(kept["actor"])
            policy = LearnedPolicy(actor, deterministic=kept["deterministic"], seed=kept["seed"])
        found.append(Candidate(name=row["name"], origin=row["origin"], policy=policy, effort=row["effort"],
                               score=row["score"], feature_F=row["feature"], length=row["length"], keep=row["keep"]))
    return found


def _family(options: Mapping[str, Any], lenses: Mapping[str, Lens], arena: Arena) -> Family:
    kind = options["kind"]
    if kind == "network":
        return Network(lenses[options["lens"]], arena.actions, hidden=options["hidden"])
    if kind == "segments":
        return Segments(arena.actions, segments=options["segments"], longest=options["longest"])
    return (Rhythm if kind == "rhythm" else Table)(arena.actions, longest=options["longest"])
