"""Every annotated shape (`Float[Tensor, "B T"]`) is checked at run time while the tests run.

A check costs some 20 microseconds a tensor. Runs that train for minutes (`make slow`) go without:
PLAUDIT_CHECK_SHAPES=0.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks a network for a model
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if os.environ.get("PLAUDIT_CHECK_SHAPES", "1") != "0":
    from jaxtyping import install_import_hook

    # an int is a good float, as PEP 484 has it and as pyright reads it
    install_import_hook("plaudit", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest
import torch
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as behind a shell's &: tests of Ctrl-C need one that arrives
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
settings.register_profile("plaudit", deadline=None, derandomize=True)  # CI must not fail by luck or by load
settings.load_profile("plaudit")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations are not checked, as outside of tests: our own errors speak."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Llama, 32 wide."""
    from plaudit.learn.text.models import tiny_llama

    return tiny_llama(tmp_path_factory.mktemp("models") / "llama", hidden=32)


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Qwen, 32 wide."""
    from plaudit.learn.text.models import tiny_qwen

    return tiny_qwen(tmp_path_factory.mktemp("models") / "qwen", hidden=32)


@pytest.fixture(scope="session")
def tiny_reward(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reward model as others write them: that Llama with a random head, a sequence classifier."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "reward"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=1)
        torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct; only for slow tests."""
    from plaudit.core.errors import MissingExtra
    from plaudit.learn.text.models import smollm2

    try:
        return smollm2()
    except MissingExtra as error:
        pytest.skip(str(error))
