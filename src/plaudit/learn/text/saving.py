"""A reward model as a folder: a sequence classifier that everybody's tools load, and the full form beside it.

    config.json, model.safetensors    AutoModelForSequenceClassification with one label, if there is such a form
    tokenizer files                   with the pad token that config.json names
    plaudit.json                      what the outputs mean, how texts become tokens, the probe set
    plaudit/head.safetensors          the full head; apart, for vLLM takes all weights that lie beside config.json
    card.json, README.md              the card (see `card`)

The probe set is scored before saving and after, the second time through the standard form, and again at each load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.core.chat import ChatFormat
from plaudit.core.checkpoint import read_tensors, write_json, write_tensors
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.extras import require
from plaudit.learn.text import older, probes
from plaudit.learn.text.forward import hidden
from plaudit.learn.text.heads import Head, HeadSpec
from plaudit.learn.text.loading import check_folder, complaints, quiet
from plaudit.learn.text.packing import pad

FILE, HEAD = "plaudit.json", probes.HEAD
FORMAT_VERSION = 2
_FORMAT_FIELDS = ("max_length", "truncation", "add_eos", "as_chat")


def is_saved(folder: str | Path) -> bool:
    """Whether this is a folder that `save` wrote."""
    return (Path(folder) / FILE).is_file()


# --- writing ------------------------------------------------------------------------------------------


def save(folder: str | Path, *, backbone: Any, head: Head, format: ChatFormat,
         meta: Mapping[str, Any] | None = None) -> Path:
    """Writes a reward model.

    Args:
        folder: A new folder, or one that holds an older state of the model.
        backbone: A transformers model without head; adapters are merged before.
        head: The head.
        format: How texts become tokens.
        meta: What else is to be known at loading: JSON.

    Returns:
        The folder.

    Raises:
        PlauditError: when what was written does not score as the model does.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("model*.safetensors*"), folder / FILE):
        old.unlink(missing_ok=True)  # the mark of a whole folder goes first and comes last
    tokenizer = format.tokenizer
    pairs = probes.texts(format)
    ids = probes.encode(format, pairs)
    kept = [i for i, one in enumerate(ids) if one]
    ids, pairs = [ids[i] for i in kept], [pairs[i] for i in kept]
    before = probe_scores(backbone, head, ids)
    row, offset = head.fold()
    standard, why = _write_model(folder, backbone, row, pad_id=int(tokenizer.pad_token_id))
    with quiet():
        tokenizer.save_pretrained(folder)
    older.rewrite(folder, reads=list(tokenizer.model_input_names))
    (folder / HEAD).parent.mkdir(exist_ok=True)
    write_tensors(folder / HEAD, {**head.state_dict(), "folded": row})
    about = {
        **dict(meta or {}), "version": FORMAT_VERSION, "head": head.spec.to_json(), "standard": standard,
        "why_not_standard": why, "score_key": "score.weight" if standard else None, "standard_offset": offset,
        "pad_token_id": int(tokenizer.pad_token_id),
        "dtypes": sorted({dtype for _, dtype in probes.header(folder).values()}),
        "format": {name: getattr(format, name) for name in _FORMAT_FIELDS}
                  | {"template_options": dict(format.template_options)},
        "probes": probes.Probes(tuple(p for p, _ in pairs), tuple(c for _, c in pairs), tuple(ids),
                                tuple(map(tuple, before.double().tolist()))).to_json(),
    }
    _check_written(folder, about, ids, before)
    write_json(folder / FILE, about)
    return folder


def _write_model(folder: Path, backbone: Any, row: Float[Tensor, "1 D"], *, pad_id: int) -> tuple[bool, str]:
    """The weights, as a classifier where that is possible."""
    transformers = require("transformers", extra="text")
    attention = getattr(backbone.config, "_attn_implementation", None)
    config = backbone.config.__class__.from_dict(
        {k: v for k, v in backbone.config.to_dict().items() if k not in ("architectures", "id2label", "label2id")})
    config.num_labels, config.pad_token_id, config.problem_type = 1, pad_id, "regression"
    config._attn_implementation = "sdpa" if attention is not None else None
    whole, why = None, ""
    try:
        with torch.device("meta"):
            whole = transformers.AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        why = f"transformers has no sequence classifier for {type(backbone).__name__}"
    prefix = "" if whole is None else whole.base_model_prefix
    if whole is not None and not (isinstance(getattr(whole, "score", None), nn.Linear)
                                  and type(getattr(whole, prefix, None)) is type(backbone)):
        whole, why = None, f"the sequence classifier of {type(backbone).__name__} has no linear layer called score"
    with quiet():
        if whole is None:
            backbone.save_pretrained(folder)
            return False, why
        setattr(whole, prefix, backbone)
        layer = nn.Linear(row.shape[1], 1, bias=False)
        layer.weight = nn.Parameter(row.to(backbone.dtype), requires_grad=False)
        whole.score = layer
        whole.save_pretrained(folder)
    return True, ""


def _check_written(folder: Path, meta: Mapping[str, Any], ids: list[tuple[int, ...]],
                   before: Float[Tensor, "M H"]) -> None:
    """The probe set through the files: the standard form gives the members' mean."""
    if not meta["standard"]:
        return
    transformers = require("transformers", extra="text")
    with quiet():
        again = transformers.AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True,
                                                                               dtype=torch.float32).eval()
    with torch.no_grad():
        logits = torch.cat([again(input_ids=torch.tensor([list(one)])).logits for one in ids]).double()[:, 0]
    expected = before.double().mean(-1).cpu() + meta["standard_offset"]
    unit = max(1.0, float(expected.std())) if len(expected) > 1 else 1.0
    off = float((logits - expected).abs().max()) / unit
    dtype = str(again.dtype) if len(meta["dtypes"]) > 1 else {"F32": "float32", "F64": "float64", "BF16": "bfloat16",
                                                              "F16": "float16"}.get(meta["dtypes"][0], "float16")
    if not off <= probes.TOLERANCE.get(dtype, 0.1):
        raise PlauditError(f"the model that was written to {folder} scores the probe set otherwise than the one in "
                           f"memory (by up to {off:.3g}); it is not marked as whole")


@torch.no_grad()
def probe_scores(backbone: Any, head: Head, ids: list[tuple[int, ...]]) -> Float[Tensor, "M H"]:
    """Scores of token sequences, one by one and without padding, so that nothing but the weights decides."""
    where = next(backbone.parameters()).device
    training = backbone.training
    backbone.eval()
    states = torch.cat([hidden(backbone, pad([list(one)], 0).to(where)) for one in ids])
    backbone.train(training)
    return head.members(head(states.to(head.layer.weight.dtype))).float().cpu()


# --- reading ------------------------------------------------------------------------------------------


def load(folder: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None,
         check: bool = True) -> tuple[Any, Head, Any, ChatFormat, dict[str, Any]]:
    """Reads what `save` wrote, and scores its probe set.

    Args:
        folder: The folder.
        device: Where the model goes.
        dtype: In which precision it computes (that of the checkpoint).
        check: Whether the probe set is scored.

    Returns:
        Backbone, head, tokenizer, format, and what else was kept.

    Raises:
        BadInput: when it is no such folder, is damaged, or does not score as it did; the fault is named.
    """
    folder = Path(folder)
    check_folder(folder)
    meta = read_meta(folder)
    transformers = require("transformers", extra="text")
    stored = probes.Probes.from_json(meta["probes"])
    with complaints(folder), quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        raise _harmed(folder, ["pad token changed: the tokenizer has none"])
    format = ChatFormat(tokenizer, **meta["format"])
    faults = probes.file_faults(folder, meta) if check else []
    faults += probes.tokenizer_faults(format, stored, meta["pad_token_id"]) if check else []
    if faults:
        raise _harmed(folder, faults)
    backbone = _read_model(folder, meta, dtype)
    head = Head(backbone.config.get_text_config().hidden_size, HeadSpec.from_json(meta["head"]))
    tensors, _ = read_tensors(folder / HEAD)
    head.load_state_dict({name: x.float() for name, x in tensors.items() if name != "folded"})
    head = head.to(backbone.dtype)
    if check:
        name = str(backbone.dtype).removeprefix("torch.")
        now = probe_scores(backbone, head, list(stored.ids))
        faults = probes.score_faults(stored, now, dtype=name)
        if faults:
            raise _harmed(folder, faults)
    if device is not None:
        backbone, head = backbone.to(device), head.to(device)
    return backbone.eval(), head.eval(), tokenizer, format, meta


def read_meta(folder: str | Path) -> dict[str, Any]:
    """What `plaudit.json` says.

    Raises:
        BadInput: when it is missing or damaged.
    """
    file = Path(folder) / FILE
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        assert {"version", "head", "probes", "format", "dtypes"} <= set(meta)
    except (OSError, ValueError, AssertionError) as error:
        raise BadInput("model", expected=f"a folder with a whole {FILE}", received=f"{folder} "
                       f"({type(error).__name__}: {error})", fix="train again with the same --out: it goes on where it "
                       "was") from None
    if meta["version"] != FORMAT_VERSION:
        other = "a newer" if meta["version"] > FORMAT_VERSION else "an older"
        raise BadInput("model", expected=f"format {FORMAT_VERSION}", received=f"{file} of format {meta['version']}",
                       fix=f"read it with {other} plaudit, or train again")
    return meta


def _read_model(folder: Path, meta: Mapping[str, Any], dtype: torch.dtype | None) -> Any:
    transformers = require("transformers", extra="text")
    kind = transformers.AutoModelForSequenceClassification if meta["standard"] else transformers.AutoModel
    with complaints(folder), quiet():
        whole = kind.from_pretrained(str(folder), use_safetensors=True, trust_remote_code=False, dtype=dtype or "auto")
    backbone = getattr(whole, whole.base_model_prefix) if meta["standard"] else whole
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return backbone


def _harmed(folder: Path, faults: list[str]) -> BadInput:
    return BadInput("model", expected="the model that was saved", received=f"{folder}: {'; '.join(faults)}",
                    fix="copy the folder again, or pass check=False where the change is meant")


def copy(source: str | Path, target: str | Path) -> Path:
    """Copies a saved folder as it is."""
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))
