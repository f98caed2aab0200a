"""Any sequence-classification checkpoint as a reward model: read from safetensors, its head found, nothing executed.

Most reward models are a causal backbone with a linear `score` head that is read at the last token. Where that gives
the numbers of the model's own forward pass (tried on two texts), backbone and head are used apart, so that prompts are
shared and rows packed; any other architecture is run as it is, on padded rows.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.learn.text.encoding import Row
from plaudit.learn.text.forward import hidden
from plaudit.learn.text.packing import pad

FOLLOW_UP = "follow_up.json"
"""What marks the folder of a follow-up reward (`followup`)."""
NOT_A_CLASSIFIER = ("There is no sequence-classification form of this reward: its numbers are likelihoods of "
                    "follow-ups under the language model, and no head on a hidden state gives them.")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
Fold = int | Mapping[int, float] | None
"""Which label of a model with several is the reward, or with which weights they add up to it."""


class Linear(nn.Module):
    """A head of one number: the labels of a linear layer, added up with weights."""

    def __init__(self, layer: nn.Linear, fold: Fold = None) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("weight_K", _weights(layer.out_features, fold))
        self.weight_K: Tensor

    def forward(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M K"]:
        """The labels."""
        return self.layer(states)

    def members(self, raw: Float[Tensor, "M K"]) -> Float[Tensor, "M 1"]:
        """The one number."""
        return (raw * self.weight_K.to(raw.dtype)).sum(-1, keepdim=True)


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to score."""

    backbone: Any
    """The part that gives hidden states; the whole model where it cannot be taken apart."""
    head: Any
    """Turns states into numbers (`head.members(head(states))` is [M, H]); None for a whole model."""
    tokenizer: Any
    name: str
    fold: Tensor | None = None
    """The weights of a whole model's labels."""


def load_classifier(path: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None,
                    head: Fold = None) -> Loaded:
    """Loads a folder, or a name on the hub, of AutoModelForSequenceClassification.

    Args:
        path: The folder or the name.
        device: Where the model goes.
        dtype: In which precision (that of the checkpoint; float32 on a CPU, where less is slower).
        head: Which label is the reward, or the weights of the labels, where there are several.

    Raises:
        BadInput: for a folder that is missing, is pickled, is damaged, wants its own code to run, or has no head.
    """
    transformers = require("transformers", extra="text")
    where = torch.device(check_device(device or "cpu"))
    check_folder(path)
    if (Path(path) / FOLLOW_UP).is_file():
        raise BadInput("model", expected="a sequence classifier", fix="FollowUpReward.load(folder)",
                       received=f"{path}, a follow-up reward. {NOT_A_CLASSIFIER}")
    dtype = dtype or (torch.float32 if where.type == "cpu" else None)
    with complaints(path), quiet():
        model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(path), use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            **({"dtype": dtype} if dtype is not None else {"dtype": "auto"}))
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    lost = sorted(k for k in info["missing_keys"] if not k.endswith("position_ids"))
    if lost:
        raise BadInput("model", expected="a reward model: a backbone with its trained head",
                       received=f"{path}, which lacks {', '.join(lost[:4])}",
                       fix="with LoRA the head is kept by modules_to_save=['score']; a language model needs "
                           "`plaudit learn text` first")
    _check_pad(model, tokenizer)
    model = model.to(where).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return _apart(model, tokenizer, head, name=Path(str(path)).name or str(path))


def check_folder(path: str | Path) -> None:
    """Whether a local folder can be a checkpoint at all; a name on the hub is left to transformers.

    Raises:
        BadInput: naming what is wrong.
    """
    folder = Path(path)
    if not folder.exists():
        if str(path).count("/") == 1 and not str(path).startswith((".", "/", "~")):
            return
        raise BadInput("model", expected="a folder that exists, or a name on the hub", received=str(path))
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise BadInput("model", expected="a checkpoint folder with a config.json", received=str(path))
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES)
    if pickled:
        raise BadInput("model", expected="weights in safetensors", received=f"{path} with {', '.join(pickled[:3])}",
                       fix="unpickling runs whatever code the file holds, so it is not read; where you trust it, "
                           "convert it: load it with transformers and save_pretrained it to another folder")
    raise BadInput("model", expected="weights in safetensors", received=f"{path}, which holds no weights")


@contextlib.contextmanager
def complaints(path: str | Path, expected: str = "a whole checkpoint of a sequence classifier") -> Generator[None]:
    """Turns what transformers raises about a checkpoint into one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except BadInput:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())[:300]
        fix = "the file is damaged or half written: copy it again" if isinstance(error, SafetensorError) else ""
        if "trust_remote_code" in text or "custom code" in text:
            fix = "it wants to run its own code, which plaudit never does"
        raise BadInput("model", expected=expected,
                       received=f"{path} ({type(error).__name__}: {text})", fix=fix) from None


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without transformers' progress bars and advice."""
    logging_ = require("transformers.utils.logging", extra="text")
    logger, bars = logging.getLogger("transformers"), logging_.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    logging_.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            logging_.enable_progress_bar()


def _check_pad(model: Any, tokenizer: Any) -> None:
    """A model that does not know the pad token reads the score at the padding."""
    if tokenizer.pad_token_id is None:
        raise BadInput("tokenizer", expected="one with a pad token", received="none",
                       fix="set tokenizer.pad_token to a token that no text contains and save the tokenizer again")
    model.config.pad_token_id = tokenizer.pad_token_id


def _weights(labels: int, fold: Fold) -> Float[Tensor, "K"]:
    if fold is None and labels == 1:
        return torch.ones(1)
    if fold is None:
        raise BadInput("model", expected="one label", received=f"{labels} labels",
                       fix="head=K says which is the reward, head={0: 0.7, 3: 0.3} adds several up")
    pairs = {fold: 1.0} if isinstance(fold, int) else dict(fold)
    out = torch.zeros(labels)
    for k, weight in pairs.items():
        if not 0 <= k < labels:
            raise BadInput("head", expected=f"labels in [0, {labels - 1}]", received=k)
        out[k] = weight
    return out


def _apart(model: Any, tokenizer: Any, fold: Fold, *, name: str) -> Loaded:
    layer, backbone = getattr(model, "score", None), getattr(model, model.base_model_prefix, None)
    if isinstance(layer, nn.Linear) and backbone is not None:
        head = Linear(layer, fold).to(layer.weight.device)
        if _same(model, backbone, head):
            return Loaded(backbone, head, tokenizer, name)
    return Loaded(model, None, tokenizer, name, fold=_weights(model.config.num_labels, fold))


@torch.no_grad()
def _same(model: Any, backbone: Any, head: Linear) -> bool:
    """Whether head(states at the last token) are the model's own logits."""
    size = int(model.config.vocab_size)
    pad_id = int(model.config.pad_token_id)
    texts = [[t for t in range(3, min(size, 20)) if t != pad_id], [t for t in range(5, min(size, 12)) if t != pad_id]]
    batch = pad(texts, pad_id).to(head.layer.weight.device)
    try:
        whole = model(input_ids=batch.ids_ML, attention_mask=batch.mask_ML, use_cache=False).logits.float()
        parts = head(hidden(backbone, batch)).float()
    except Exception:  # an architecture whose parts are not called so
        return False
    return whole.shape == parts.shape and bool(torch.allclose(whole, parts, rtol=1e-3, atol=1e-3))


def whole_scores(loaded: Loaded, rows: Sequence[Row]) -> Float[Tensor, "M 1"]:
    """The numbers of a model that is run as it is; the second segment begins at `row.start`."""
    assert loaded.fold is not None
    where = next(loaded.backbone.parameters()).device
    batch = pad([row.ids for row in rows], int(loaded.tokenizer.pad_token_id)).to(where)
    kinds: dict[str, Tensor] = {}
    if "token_type_ids" in loaded.tokenizer.model_input_names:
        start = torch.tensor([row.start or len(row.ids) for row in rows], device=where)
        at = torch.arange(batch.ids_ML.shape[1], device=where)
        kinds["token_type_ids"] = ((at >= start[:, None]) & (batch.mask_ML > 0)).long()
    logits = loaded.backbone(input_ids=batch.ids_ML, attention_mask=batch.mask_ML, **kinds).logits
    return (logits.float() * loaded.fold.to(logits.device)).sum(-1, keepdim=True)
