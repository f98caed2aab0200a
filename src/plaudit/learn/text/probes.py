"""The probe set of a saved reward model: texts with their tokens and scores, and what it means when they change.

A reward model can be harmed without a word on its way from trainer to user: its head is dropped or drawn anew, the pad
token becomes another (the score is then read at the wrong place), weights are cast, the chat template is replaced. The
probe set is stored with the model and scored before saving, after saving and at each load; a difference is traced to
its cause, which is given a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.chat import ChatFormat
from plaudit.core.checkpoint import read_tensors
from plaudit.core.errors import BadInput

HEAD = "plaudit/head.safetensors"
CHAT: tuple[tuple[Any, Any], ...] = (
    ([{"role": "user", "content": "What is 17 + 25?"}], [{"role": "assistant", "content": "17 + 25 = 42."}]),
    ([{"role": "user", "content": "What is 17 + 25?"}], [{"role": "assistant", "content": "43, I think."}]),
    ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."},
      {"role": "assistant", "content": "Blue."}, {"role": "user", "content": "Another?"}],
     [{"role": "assistant", "content": "Red.\n\n- or green\n- or a long list of others"}]),
)
PLAIN: tuple[tuple[Any, Any], ...] = (
    ("What is 17 + 25?", " 42"),
    ("Write a line of Python.\n", "def add(a, b):\n    return a + b"),
    ("Grüße aus Köln? ", "Ja, \u00e7a va. \u4f60\u597d"),
)
TOLERANCE = {"float32": 1e-3, "float64": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""How far a score may be off, in units of the spread of the probe scores (and at least of 1)."""


@dataclass(frozen=True)
class Probes:
    """Texts, the tokens they became, and the scores they got."""

    prompts: tuple[Any, ...]
    completions: tuple[Any, ...]
    ids: tuple[tuple[int, ...], ...]
    scores_MH: tuple[tuple[float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"prompts": list(self.prompts), "completions": list(self.completions),
                "ids": [list(i) for i in self.ids], "scores": [list(s) for s in self.scores_MH]}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Probes:
        """The inverse of `to_json`."""
        return Probes(tuple(raw["prompts"]), tuple(raw["completions"]), tuple(map(tuple, raw["ids"])),
                      tuple(map(tuple, raw["scores"])))


def texts(format: ChatFormat) -> tuple[tuple[Any, Any], ...]:
    """The texts that this format can say."""
    return (*CHAT, *PLAIN) if getattr(format.tokenizer, "chat_template", None) else PLAIN


def encode(format: ChatFormat, pairs: Sequence[tuple[Any, Any]]) -> list[tuple[int, ...]]:
    """The tokens of each; none where the template refuses a text."""
    out: list[tuple[int, ...]] = []
    for prompt, completion in pairs:
        try:
            out.append(tuple(format.encode(prompt, completion).ids))
        except BadInput:
            out.append(())
    return out


def tokenizer_faults(format: ChatFormat, probes: Probes, pad_id: int) -> list[str]:
    """`pad token changed`, `template changed`, `tokenizer changed`."""
    faults: list[str] = []
    if format.tokenizer.pad_token_id != pad_id:
        faults.append(f"pad token changed: the tokenizer pads with {format.tokenizer.pad_token_id}, "
                      f"the model was trained with {pad_id}")
    pairs = list(zip(probes.prompts, probes.completions, strict=True))
    different = [pair for pair, now, then in zip(pairs, encode(format, pairs), probes.ids, strict=True) if now != then]
    plain = [pair for pair in different if isinstance(pair[0], str) and isinstance(pair[1], str)]
    if plain and not format.as_chat:
        faults.append(f"tokenizer changed: {plain[0][1]!r:.40} has other tokens than when the model was saved")
    elif different:
        faults.append(f"template changed: {str(different[0][0])[:60]!r} is rendered otherwise than when the model was "
                      "saved")
    return faults


def file_faults(folder: Path, meta: Mapping[str, Any]) -> list[str]:
    """What the files say by themselves: `head lost`, `head changed`, `dtype changed`, `pad token changed`."""
    tensors = header(folder)
    faults: list[str] = []
    key = meta.get("score_key")
    if key is not None and key not in tensors:
        faults.append(f"head lost: the checkpoint holds no {key}; with LoRA, keep it by modules_to_save")
    elif key is not None and not faults and (folder / HEAD).is_file():
        faults += _head_changed(folder, key, tensors[key][0])
    kinds = {dtype for name, (_, dtype) in tensors.items()}
    expected = set(meta["dtypes"])
    if kinds != expected:
        faults.append(f"dtype changed: the weights are {', '.join(sorted(kinds))}, they were saved as "
                      f"{', '.join(sorted(expected))}")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pad = config.get("pad_token_id", config.get("text_config", {}).get("pad_token_id"))
    if pad != meta["pad_token_id"]:
        faults.append(f"pad token changed: config.json says {pad}, the model was trained with {meta['pad_token_id']}")
    return faults


def _head_changed(folder: Path, key: str, file: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:  # type: ignore[no-untyped-call]
        row = opened.get_tensor(key).float()
    folded = read_tensors(folder / HEAD)[0]["folded"].float()
    if row.shape != folded.shape or not torch.allclose(row, folded, rtol=2e-2, atol=1e-4):
        return [f"head changed: {key} is not the head that was saved (drawn anew, or trained on)"]
    return []


def header(folder: Path) -> dict[str, tuple[Path, str]]:
    """The file and the dtype of each tensor of a checkpoint; the head of its files is read, not their weights.

    Raises:
        BadInput: when a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    out: dict[str, tuple[Path, str]] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:  # type: ignore[no-untyped-call]
                for name in opened.keys():
                    out[name] = (file, str(opened.get_slice(name).get_dtype()))
        except (SafetensorError, OSError) as error:
            raise BadInput("model", expected="a whole checkpoint", received=f"{file} ({error})",
                           fix="the file is damaged or half written: copy it again, or take an older checkpoint") \
                from None
    return out


def score_faults(probes: Probes, now_MH: Float[Tensor, "M H"], *, dtype: str) -> list[str]:
    """`scores changed` where the model says something else of the same tokens."""
    then = torch.tensor(probes.scores_MH, dtype=torch.float64)
    if now_MH.shape != then.shape:
        return [f"head changed: it has {now_MH.shape[-1]} members, it had {then.shape[-1]}"]
    unit = max(1.0, float(then.std())) if then.numel() > 1 else 1.0
    off = (now_MH.double().cpu() - then).abs().max() / unit
    if not float(off) <= TOLERANCE.get(dtype, 0.1):
        return [f"weights changed: the probe scores differ by up to {float(off):.3g}"]
    return []
