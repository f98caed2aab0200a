"""A saved model in other people's programs: what they are given, and RewardBench as it is.

In an environment of its own with `rewardbench==0.1.4 transformers==4.51.0 trl==0.16.1 setuptools<80`:

    python tests/learn/text/elsewhere.py MODEL PAIRS.jsonl OUT.json

loads MODEL by RewardBench's own command, in float32 on a CPU, and writes what it pays the two sides of each pair.
`loads_elsewhere_golden.json` holds what it paid the model of `made`, with versions; PLAUDIT_REWARDBENCH names that
environment's Python and has the tests ask it again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

THETA = 300.0
"""The base of the rotary positions, far from the usual one: a reader that overlooks it gives other scores."""


def talks() -> list[dict[str, Any]]:
    """Pairs of conversations, of different lengths."""
    out: list[dict[str, Any]] = []
    for n in range(12):
        asked = [{"role": "user", "content": f"What is {n} and {n % 5}?" + " Think of it." * (n % 4)}]
        if n % 3 == 0:
            asked = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}, *asked]
        out.append({"chosen": [*asked, {"role": "assistant", "content": f"It is {n + n % 5}."}],
                    "rejected": [*asked, {"role": "assistant", "content": f"No idea {'at all ' * n}{n}"}]})
    return out


def made(base: Path, folder: Path) -> Path:
    """A Llama whose numbers come from NumPy's generator, which no version of torch changes, saved by plaudit."""
    import numpy as np
    import torch
    import transformers

    from plaudit.core.chat import ChatFormat
    from plaudit.learn.text import saving
    from plaudit.learn.text.heads import Head, HeadSpec

    config = transformers.AutoConfig.from_pretrained(base)
    config.rope_parameters = {"rope_theta": THETA, "rope_type": "default"}
    model = transformers.AutoModel.from_config(config).float().eval()
    head = Head(config.hidden_size, HeadSpec(), seed=0)
    rng = np.random.default_rng(0)
    for parameter in (*model.parameters(), *head.parameters()):
        values = rng.normal(size=tuple(parameter.shape)) * (0.25 if parameter.ndim > 1 else 0.1)
        parameter.data = torch.from_numpy(values + (parameter.ndim == 1)).to(parameter.dtype)
    return saving.save(folder, backbone=model, head=head, format=ChatFormat.load(base, as_chat=True))


def rewardbench(model: str, pairs: str) -> dict[str, Any]:
    """RewardBench's command on a file of conversations."""
    import importlib.metadata

    import transformers

    theirs: Any = importlib.import_module("rewardbench.rewardbench")

    transformers.BatchEncoding.to = lambda self, *where, **_: self  # its pipeline moves every batch to "cuda"
    out = Path(tempfile.mkdtemp())
    theirs.rewardbench(theirs.Args(model=model, dataset=pairs, load_json=True, torch_dtype="float32", save_all=True,
                                   not_quantized=True, output_dir=str(out), max_length=2048, batch_size=5))
    (file,) = out.rglob("*_all.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    versions = {name: importlib.metadata.version(name) for name in ("rewardbench", "transformers", "torch")}
    return {"provenance": versions, "scores": [[row["chosen"][0], row["rejected"][0]] for row in rows]}


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(rewardbench(sys.argv[1], sys.argv[2]), indent=1) + "\n")
