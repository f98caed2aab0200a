"""A causal language model of transformers as a policy: any checkpoint folder, in full or with LoRA."""

from __future__ import annotations

import contextlib
import copy
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.chat import ChatFormat
from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.tokens import Tokens
from plaudit.learn.text.loading import quiet
from plaudit.optimize.align.policy import Policy

_LAST, _WRITING = "config.json", ".writing-"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class CausalPolicy(Policy):
    """A model with a tokenizer; prompts are texts or conversations, completions texts or an assistant's message.

    The prompt of several samples is read once. There is no dropout: probabilities are those of sampling.

    Args:
        model: A causal language model of transformers (or of peft).
        form: Its tokenizer and chat template.
        max_tokens: The most tokens of a completion.
        temperature: As for `Policy`.

    Raises:
        BadInput: when the tokenizer has no end token.
    """

    module: Any

    def __init__(self, model: Any, form: ChatFormat, *, max_tokens: int = 64, temperature: float = 1.0) -> None:
        end = form.tokenizer.eos_token_id
        if end is None:
            raise BadInput("tokenizer", expected="one with an end token", received=form.tokenizer.name_or_path,
                           fix="set tokenizer.eos_token")
        if not temperature > 0:
            raise BadInput("temperature", expected="a number above 0", received=temperature)
        self.module, self.form, self.end = model.eval(), form, int(end)
        self.max_tokens, self.temperature = max_tokens, temperature
        self.vocab = int(model.config.vocab_size)
        self.plain = False
        """Whether adapters are switched off: the reference of a model with LoRA."""

    @staticmethod
    def load(folder: str | Path, *, max_tokens: int = 64, temperature: float = 1.0, device: str = "cpu",
             dtype: str = "float32", lora: int | None = None, seed: int = 0,
             **options: Any) -> CausalPolicy:
        """A checkpoint folder (or a name on the hub), without running its code; safetensors only.

        Args:
            folder: What transformers reads.
            max_tokens: The most tokens of a completion.
            temperature: By what logits are divided.
            device: Where it runs.
            dtype: float32, bfloat16 or float16.
            lora: The rank of adapters on all linear layers, which then learn alone; None trains everything.
            seed: Of the adapters' first values.
            options: Of `ChatFormat`.

        Raises:
            BadInput: for a dtype or device that there is not, or a checkpoint without a language head of its own.
            MissingExtra: when transformers, or peft for LoRA, is not installed.
        """
        if dtype not in _DTYPES:
            raise BadInput("dtype", expected=f"one of {list(_DTYPES)}", received=dtype)
        auto = require("transformers", extra="text").AutoModelForCausalLM
        with quiet():
            model, info = auto.from_pretrained(str(folder), dtype=_DTYPES[dtype], trust_remote_code=False,
                                               use_safetensors=True, output_loading_info=True)
        lost = sorted(info["missing_keys"])
        if lost:
            raise BadInput("folder", expected="a causal language model with all its weights",
                           received=f"{folder}, which lacks {lost[0]}")
        if lora is not None:
            peft = require("peft", extra="text")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = peft.get_peft_model(model, peft.LoraConfig(
                    r=lora, lora_alpha=2 * lora, target_modules="all-linear", task_type="CAUSAL_LM"))
        return CausalPolicy(model.to(check_device(device)), ChatFormat.load(folder, **options), max_tokens=max_tokens,
                            temperature=temperature)

    def save(self, folder: str | Path) -> Path:
        """Writes model (adapters merged) and tokenizer as a checkpoint folder that transformers reads.

        `config.json`, without which nothing reads it, comes last.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model = copy.deepcopy(self.module).merge_and_unload() if self._adapted else self.module
        for torn in folder.glob(f"{_WRITING}*"):
            shutil.rmtree(torn, ignore_errors=True)  # what a kill left
        with tempfile.TemporaryDirectory(dir=folder, prefix=_WRITING) as name, quiet():
            model.save_pretrained(name)
            self.form.tokenizer.save_pretrained(name)
            for old in (folder / _LAST, *folder.glob("model*.safetensors*")):
                old.unlink(missing_ok=True)
            mode = (Path(name) / _LAST).stat().st_mode & 0o777
            for path in sorted(Path(name).iterdir(), key=lambda p: p.name == _LAST):
                if path.is_file():
                    path.chmod(mode)  # weights are written for their owner alone
                if (folder / path.name).is_dir():
                    shutil.rmtree(folder / path.name)
                path.replace(folder / path.name)
        return folder

    # --- texts ------------------------------------------------------------------------------------------

    def encode(self, prompt: Any) -> list[int]:
        ids = self.form.prompt_ids(prompt)
        longest = getattr(self.module.config, "max_position_embeddings", None)
        if not ids:
            raise BadInput("prompt", expected="at least one token", received=repr(prompt),
                           fix="begin with a token, such as the tokenizer's bos_token")
        if longest is not None and len(ids) + self.max_tokens > longest:
            raise BadInput("prompt", expected=f"at most {longest - self.max_tokens} tokens beside {self.max_tokens} "
                                              f"of a completion in a context of {longest}", received=len(ids))
        return ids

    def encode_completions(self, prompt: Any, completions: Sequence[Any], *,
                           tools: Sequence[Any] = ()) -> tuple[list[int], list[list[int]]]:
        """As the chat format writes them, without what a template puts behind the last end token."""
        said = self.form.encode_options(prompt, completions, tools=list(tools) or None)
        ends = [max((i + 1 for i, t in enumerate(e.completion_ids) if t == self.end), default=len(e.completion_ids))
                for e in said]
        return said[0].prompt_ids, [e.completion_ids[:end] for e, end in zip(said, ends, strict=True)]

    def decode(self, prompt: Any, ids: Sequence[int]) -> Any:
        text = self.form.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]

    # --- the model --------------------------------------------------------------------------------------

    def begin(self, prompt_ids: Int[Tensor, "B P"], prompt_mask: Bool[Tensor, "B P"]) -> tuple[Tensor, Any]:
        both = torch.cat([prompt_ids, prompt_mask.long()], 1)
        few, back = torch.unique_consecutive(both, dim=0, return_inverse=True)
        P = prompt_ids.shape[1]
        mask = few[:, P:].bool()
        with self._adapters():
            out = self.module(input_ids=few[:, :P], attention_mask=mask.long(), position_ids=_positions(mask),
                              use_cache=True, logits_to_keep=1)
        past = out.past_key_values
        if len(few) < len(back):
            past.batch_select_indices(back)
        return out.logits[back, -1], (past, mask[back])

    def step(self, token: Int[Tensor, "B"], state: Any) -> tuple[Tensor, Any]:
        past, mask = state
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        with self._adapters():
            out = self.module(input_ids=token.unsqueeze(1), attention_mask=mask.long(),
                              position_ids=mask.long().sum(1, keepdim=True) - 1, past_key_values=past, use_cache=True)
        return out.logits[:, -1], (out.past_key_values, mask)

    def raw_logits(self, tokens: Tokens) -> Float[Tensor, "B T V"]:
        mask = tokens.sequence_mask
        with self._adapters():
            out = self.module(input_ids=tokens.sequence_ids, attention_mask=mask.long(), use_cache=False,
                              position_ids=_positions(mask), logits_to_keep=tokens.T + 1)
        return out.logits[:, :-1]

    @torch.no_grad()
    def features(self, tokens: Tokens) -> Float[Tensor, "B T D"]:
        mask = tokens.sequence_mask
        with self._adapters():
            out = self.module(input_ids=tokens.sequence_ids, attention_mask=mask.long(), use_cache=False,
                              position_ids=_positions(mask), logits_to_keep=1, output_hidden_states=True)
        return out.hidden_states[-1][:, -tokens.T - 1:-1]

    # --- what learns ------------------------------------------------------------------------------------

    @property
    def _adapted(self) -> bool:
        return hasattr(self.module, "disable_adapter")

    def _adapters(self) -> contextlib.AbstractContextManager[Any]:
        return self.module.disable_adapter() if self.plain else contextlib.nullcontext()

    def reference(self) -> Policy:
        """The policy as it is now; with LoRA, the same model with its adapters switched off."""
        if not self._adapted:
            return super().reference()
        other = copy.copy(self)
        other.plain = True
        return other

    def trainable(self) -> list[torch.nn.Parameter]:
        return [] if self.plain else super().trainable()

    def state_dict(self) -> dict[str, Any]:
        """All parameters; with LoRA, those of the adapters (of the reference, those without)."""
        state = dict(self.module.state_dict())
        return {k: v for k, v in state.items() if ("lora_" in k) != self.plain} if self._adapted else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(dict(state), strict=not self._adapted)


def _positions(mask: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    return (mask.long().cumsum(1) - 1).clamp(min=0)
