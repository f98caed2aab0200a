"""A checkpoint in words that older readers know too: transformers 4, and what is held to it, such as RewardBench.

transformers 5 writes `rope_parameters`, `dtype` and a tokenizer class of its own. A reader of version 4 refuses the
tokenizer, and, worse, falls back on the usual base of the rotary positions without a word: other scores. So the same
things are written in the older words as well, beside the newer ones, which win where both are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import write_json

CLASS, OLDER_CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"
_OF_THIS_MACHINE = ("backend", "is_local", "local_files_only")


def rewrite(folder: Path, *, reads: Sequence[str] = ("input_ids", "attention_mask")) -> None:
    """Adds what older readers need to `config.json` and `tokenizer_config.json`; nothing changes for newer ones.

    Args:
        folder: A checkpoint folder.
        reads: What the tokenizer gives to the model; an older reader otherwise adds the types of segments.
    """
    config, tokenizer = folder / "config.json", folder / "tokenizer_config.json"
    if config.is_file():
        write_json(config, with_older_words(json.loads(config.read_text(encoding="utf-8"))))
    if tokenizer.is_file():
        write_json(tokenizer, {"model_input_names": list(reads),
                               **older_tokenizer(json.loads(tokenizer.read_text(encoding="utf-8")))})


def with_older_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's configuration with `rope_theta`, `rope_scaling` and `torch_dtype` beside their newer forms.

    Example:
        >>> with_older_words({"dtype": "float32", "rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}})[
        ...     "rope_theta"]
        100000.0
    """
    out = dict(config)
    for name, part in config.items():
        if name.endswith("_config") and isinstance(part, Mapping):
            out[name] = with_older_words(part)
    if "dtype" in config:
        out.setdefault("torch_dtype", config["dtype"])
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return out
    if any(isinstance(v, Mapping) for v in rope.values()):  # one for each kind of layer: Gemma 3
        if "full_attention" in rope:
            out.update(_rope(rope["full_attention"] or {}))
        local = (rope.get("sliding_attention") or {}).get("rope_theta")
        return {**out, "rope_local_base_freq": local} if local is not None else out
    out.update(_rope(rope))
    if config.get("model_type") == "gpt_neox":
        out |= {"rotary_emb_base": rope.get("rope_theta"), "rotary_pct": rope.get("partial_rotary_factor")}
    return out


def _rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    out = {k: rope[k] for k in ("rope_theta", "partial_rotary_factor") if rope.get(k) is not None}
    scaling = {k: v for k, v in rope.items() if k not in ("rope_theta", "partial_rotary_factor")}
    return {**out, "rope_scaling": None if scaling.get("rope_type", "default") == "default" else scaling}


def older_tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer's configuration whose class both know.

    Example:
        >>> older_tokenizer({"tokenizer_class": "TokenizersBackend", "is_local": True, "pad_token": "<pad>"})
        {'tokenizer_class': 'PreTrainedTokenizerFast', 'pad_token': '<pad>'}
    """
    out = {k: v for k, v in config.items() if k not in _OF_THIS_MACHINE}
    if out.get("tokenizer_class") == CLASS:
        out["tokenizer_class"] = OLDER_CLASS
    more = out.get("extra_special_tokens")
    if isinstance(more, list):  # a dictionary of names, in the older words
        del out["extra_special_tokens"]
        out["additional_special_tokens"] = more
    return out
