"""`plaudit optimize align`: a language model, and a reward or a file of pairs, give a checkpoint that is aligned."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from plaudit.cli.given import check_resume, json_object
from plaudit.cli.interrupts import leaving
from plaudit.cli.models import Lines, ModelOptions, checkpoint, load_model
from plaudit.core.errors import BadInput
from plaudit.core.misspelt import refuse_misspelt
from plaudit.core.needs import Reads

if TYPE_CHECKING:
    from plaudit.optimize.align import AlignConfig, AlignResult, CausalPolicy, Judged, Pairs

NOTHING = 10
"""After so many steps in which nothing was known, or after all where there are fewer, a run stops."""
RUN, CHECKPOINT, SUMMARY, HISTORY = "run", "checkpoint.safetensors", "summary.json", "history.jsonl"
_RATES = {False: 1e-5, True: 2e-4}
_PLAIN = ("prompts", "samples", "lr", "beta", "rows", "measure_every")


@dataclass(frozen=True, kw_only=True)
class AlignArgs:
    """Aligns a language model with a reward, or with a file of pairs.

    dpo and kto learn from pairs (of people, of judges, mined) or, kto, from single verdicts; with --own-samples they
    compare samples of the policy by a reward. rloo, ppo and rft (the best of --samples is imitated) need a reward.
    What comes out is a checkpoint that every tool loads.

    Example: plaudit optimize align --policy smollm2 --algo dpo --data mined.jsonl --lora --out aligned
    """

    policy: str
    """What is aligned: a checkpoint folder or a name on the hub; smollm2 is the packaged SmolLM2-135M."""
    data: Path
    """JSONL, JSON, Parquet or a folder of datasets: pairs in any form that `plaudit learn text` reads, rows of prompt,
    completion and label (kto), or rows with a prompt; further columns reach the rewards that name them."""
    out: Path
    """The folder of the checkpoint, with history.jsonl and summary.json; new or empty."""
    algo: Literal["rloo", "ppo", "dpo", "kto", "rft"] = "dpo"
    """Which algorithm."""
    reward: str | None = None
    """What pays: a reward model's folder, a name on the hub, a URL, or file.py:name. Beside pairs it is only measured;
    with dpo and kto and --own-samples it compares."""
    own_samples: tyro.conf.FlagCreatePairsOff[bool] = False
    """dpo and kto: take the prompts alone out of --data, and compare the policy's samples by --reward."""
    watch: tuple[str, ...] = ()
    """Further rewards that are measured on the same completions, never trained on."""
    gold: str | None = None
    """The reward that is really meant, measured likewise."""
    steps: int | None = None
    """Steps of the run; once through the pairs by default, 100 where the policy is sampled."""
    prompts: int = 16
    """Prompts, or pairs, in a step."""
    samples: int | None = None
    """Completions of each prompt: 4; with rft 8, of which the best is kept (4 to 512)."""
    lr: float | None = None
    """Step size of Adam: 1e-5, with --lora 2e-4."""
    beta: float | None = None
    """The price of a nat of KL to the policy as it was: 0.05, for dpo and kto 0.1."""
    max_tokens: int = 128
    """The most tokens of a completion; those of the data are cut there, and counted."""
    temperature: float = 1.0
    """By what logits are divided."""
    lora: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train adapters (merged when saving) in place of all weights."""
    rank: int = 16
    """The rank of the adapters."""
    rows: int = 8
    """Completions in one forward pass."""
    measure_every: int | None = None
    """Steps between two measurements of --watch and --gold; beside pairs also between two samplings (a tenth of the
    run by default)."""
    config: str = "{}"
    """Further options of the algorithm as JSON, such as '{"kl_in": "loss"}' or '{"undesirable_weight": 1.5}'."""
    format: Literal["auto", "trl", "rewardbench", "rewardbench2", "ultrafeedback", "helpsteer2", "plaudit"] = "auto"
    """The form of pairs."""
    split: str | None = None
    """Which split, where the data have several."""
    skip_faulty: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out rows with faults, and count them, in place of stopping."""
    on_unknown: Literal["mask", "stop"] = "mask"
    """Where the reward gives no number: leave the completion out, or stop."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with the run in --out."""
    seed: int = 0
    """The root of all randomness."""
    device: str = "cpu"
    """Where everything computes, such as cpu or cuda."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """In which precision the policy computes."""
    time_limit: float = 10.0
    """Seconds that one call of a function of file.py:name may take, in worker processes that are killed when they are
    late; 0 calls it in this process, without a limit."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run the functions of a saved reward also where their code has changed since, or lies outside this folder."""
    threads: int = 1
    """CPU threads of torch."""


def optimize_align(args: AlignArgs) -> int:
    """Runs the command; returns the exit code."""
    with leaving(lambda: f"the same command {'' if args.resume else 'with --resume '}goes on from the last checkpoint"
                 if (args.out / RUN / CHECKPOINT).is_file() else "no checkpoint was written"):
        return _align(args)


def _align(args: AlignArgs) -> int:
    if "PLAUDIT_LOG" not in os.environ:
        logging.getLogger("plaudit").setLevel(logging.WARNING)
    offline = _check(args)
    import torch

    from plaudit.optimize.align import align

    torch.set_num_threads(args.threads)
    config = _config(args, steps=1)  # what is wrong with the options is said before anything is loaded
    if _is_done(args):
        print(f"finished before: {args.out}")
        return 0
    options = ModelOptions(device=args.device, time_limit=args.time_limit, trust=args.trust)
    reward, gold = (None if name is None else load_model(name, options) for name in (args.reward, args.gold))
    watch = [load_model(name, options) for name in args.watch]
    policy = _policy(args)
    rewards = [r for r in (reward, *watch, gold) if r is not None]
    pairs, prompts, columns, said = _evidence(args, policy, offline, reduce(Reads.__or__, (r.reads for r in rewards),
                                                                            Reads()))
    print(said)
    steps = args.steps or (max(1, math.ceil(len(pairs) / _in_a_step(args, pairs))) if pairs is not None else 100)
    config = _config(args, steps=steps if pairs is not None else 1)
    lines = None if sys.stderr.isatty() else Lines("aligning")
    with lines or nullcontext():
        result = align(policy, reward, prompts, algo=args.algo, watch=watch, gold=gold, pairs=pairs, columns=columns,
                       steps=steps, config=config, on_unknown=args.on_unknown, stop_after=min(steps, NOTHING),
                       seed=args.seed, out=args.out / RUN, resume=args.resume,
                       progress=lines.tell if lines else True)
    policy.save(args.out)
    _finish(args, result, said)
    print(f"aligned by {args.algo} in {steps} steps; a checkpoint as transformers reads it: {args.out}")
    for line in _curves(result):
        print(line)
    return 0


def _check(args: AlignArgs) -> bool:
    """Whether the evidence is given; options that contradict each other stop it here."""
    if not args.data.exists():
        raise BadInput("--data", expected="a file or folder that exists", received=str(args.data))
    if args.own_samples and args.algo not in ("dpo", "kto"):
        raise BadInput("--own-samples", expected="dpo or kto (the others always sample)", received=args.algo)
    offline = args.algo in ("dpo", "kto") and not args.own_samples
    if args.reward is None and not offline:
        raise BadInput("--reward", expected="a reward, as the policy's samples are what is learnt from", received=None,
                       fix="name a reward model's folder or file.py:name; --algo dpo and kto also learn from pairs")
    for name, value in (("--steps", args.steps), ("--threads", args.threads), ("--rank", args.rank),
                        ("--max-tokens", args.max_tokens)):
        if value is not None and value < 1:
            raise BadInput(name, expected="at least 1", received=value)
    _check_out(args)
    return offline


def _check_out(args: AlignArgs) -> None:
    """Whether the folder is a new one, or with --resume that of a run."""
    ours = (args.out / RUN).is_dir() or (args.out / SUMMARY).is_file()
    if args.resume:
        check_resume(args.out, ours)
    elif args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise BadInput("--out", expected="a new or empty folder", received=str(args.out),
                       fix="--resume goes on with the run in it" if ours else "choose another")


def _policy(args: AlignArgs) -> CausalPolicy:
    """The policy; what is wrong with its folder is said of --policy."""
    from plaudit.optimize.align import CausalPolicy

    try:
        return CausalPolicy.load(checkpoint(args.policy), max_tokens=args.max_tokens, temperature=args.temperature,
                                 device=args.device, dtype=args.dtype, lora=args.rank if args.lora else None,
                                 seed=args.seed)
    except BadInput as error:
        if error.name != "model":
            raise
        raise BadInput("--policy", expected=error.expected, received=error.received, fix=error.fix) from None


def _config(args: AlignArgs, *, steps: int) -> AlignConfig:
    from plaudit.optimize.align import AlignConfig

    more = json_object("--config", args.config)
    known = [name for name in AlignConfig.__dataclass_fields__ if name not in _PLAIN]
    plain = sorted(set(more) & set(_PLAIN))
    if plain:
        raise BadInput("--config", expected=f"options out of {', '.join(known)}", received=", ".join(plain),
                       fix="these have a place of their own on the command line")
    refuse_misspelt("--config", more, known)
    comparing = args.algo in ("dpo", "kto")
    return AlignConfig(
        prompts=args.prompts, samples=args.samples or (8 if args.algo == "rft" else 4), rows=args.rows,
        lr=_RATES[args.lora] if args.lr is None else args.lr,
        beta=args.beta if args.beta is not None else 0.1 if comparing else 0.05,
        measure_every=args.measure_every or max(1, steps // 10), **more)


def _in_a_step(args: AlignArgs, pairs: Pairs | Judged) -> int:
    """How many of what was given a step reads."""
    from plaudit.optimize.align import Judged

    return args.prompts * (2 if isinstance(pairs, Judged) else 1)


def _is_done(args: AlignArgs) -> bool:
    summary = args.out / SUMMARY
    if not summary.is_file():
        return False
    if json.loads(summary.read_text(encoding="utf-8")).get("options") != _said(args):
        raise BadInput("--out", expected="a new folder, or that of the same run", received=str(args.out))
    return True


def _said(args: AlignArgs) -> dict[str, Any]:
    """The options as JSON, without what changes nothing."""
    idle = ("out", "resume", "threads", "time_limit", "trust")
    kept = {name: value for name, value in vars(args).items() if name not in idle}
    return json.loads(json.dumps(kept, default=str))


def _evidence(args: AlignArgs, policy: CausalPolicy, offline: bool, reads: Reads) -> tuple[
        Pairs | Judged | None, list[Any], Mapping[str, Sequence[Any]], str]:
    """What is given, the prompts with the columns that the rewards read, and a line about them."""
    from plaudit.optimize.align import Judged, read_asked, read_given

    asked = read_asked(policy, args.data, reads, split=args.split, skip_faulty=args.skip_faulty) \
        if not offline or reads.named or reads.anything else None
    if not offline and asked is not None:
        left = f"; {asked.left_out} rows left out" if asked.left_out else ""
        return None, list(asked.prompts), asked.columns, f"{len(asked.prompts)} prompts{left}"
    given = read_given(policy, args.data, format=args.format, split=args.split, skip_faulty=args.skip_faulty)
    if args.algo == "dpo" and isinstance(given.evidence, Judged):
        raise BadInput("--data", expected="pairs, as dpo compares two completions", received="single verdicts",
                       fix="--algo kto")
    if asked is not None:
        return given.evidence, list(asked.prompts), asked.columns, given.said()
    return given.evidence, list(given.prompts), {}, given.said()


def _finish(args: AlignArgs, result: AlignResult, said: str) -> None:
    """What is left beside the checkpoint; the summary, which says that all is there, comes last."""
    from plaudit.core.checkpoint import write_json, write_text

    write_text(args.out / HISTORY, (args.out / RUN / HISTORY).read_text(encoding="utf-8"))
    ends = {name: {"first": a, "last": b} for name, (a, b) in _ends(result).items()}
    write_json(args.out / SUMMARY, {"options": _said(args), "data": said, "steps": len(result.history),
                                    "config": result.config.to_json(), "curves": ends})
    shutil.rmtree(args.out / RUN, ignore_errors=True)


def _ends(result: AlignResult) -> dict[str, tuple[float, float]]:
    """The first and the last number of each curve that is worth a line."""
    names = [n for n in dict.fromkeys(n for row in result.history for n in row)
             if n in ("loss", "reward", "best", "kl", "length", "accuracy", "unknown") or "/" in n]
    out: dict[str, tuple[float, float]] = {}
    for name in names:
        known = [x for x in result.curve(name) if math.isfinite(x)]
        if known and (name != "unknown" or max(known) > 0):
            out[name] = (known[0], known[-1])
    return out


def _curves(result: AlignResult) -> list[str]:
    return [f"  {name}: {a:.3g} -> {b:.3g}" for name, (a, b) in _ends(result).items()]
