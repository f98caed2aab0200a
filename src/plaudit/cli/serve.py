"""`plaudit serve`: reward models behind HTTP."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from plaudit.cli.models import ModelOptions, load_model
from plaudit.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ServeArgs(ModelOptions):
    """Serves reward models over HTTP, to this machine unless there is a token.

    POST /score, /get_reward (OpenRLHF), /rerank (Cohere, Jina), /pooling and /classify (vLLM);
    GET /health, /metrics (Prometheus), /docs. The bearer token is the variable PLAUDIT_TOKEN or --token-file.

    Example: plaudit serve --model runs/rm --port 8000
    """

    model: tyro.conf.UseAppendAction[list[str]]
    """A folder, a name on the hub, or file.py:name of a reward of texts; once for each model."""
    host: str = "127.0.0.1"
    """The address to listen on; any other than this machine's own needs a token."""
    port: int = 8000
    """0 takes a free one."""
    token_file: Path | None = None
    """A file with the bearer token."""
    body_mb: float = 8.0
    """The longest request, in megabytes."""
    texts: int = 1024
    """The most completions of a request."""
    text_chars: int = 1_000_000
    """The most characters of a prompt or a completion."""
    together: int = 16_384
    """About how many tokens are scored together."""
    wait_ms: float = 4.0
    """How long the first request of a batch waits for company."""
    answer_s: float = 300.0
    """How long a request may wait for its scores; a model that scores longer at a time makes /health say 503."""
    drain_s: float = 60.0
    """How long Ctrl-C and SIGTERM wait for the requests that were accepted."""


def serve(args: ServeArgs) -> int:
    """Runs the command; returns the exit code."""
    from plaudit.core.extras import require
    from plaudit.serve.limits import Limits
    from plaudit.serve.server import serve as run

    require("fastapi", extra="serve")
    if not args.model:
        raise BadInput("--model", expected="at least one model", received="none")
    limits = Limits(body_bytes=int(args.body_mb * 1_000_000), texts=args.texts, text_chars=args.text_chars,
                    batch_tokens=args.together, wait_ms=args.wait_ms, answer_s=args.answer_s, drain_s=args.drain_s)
    token = _token(args.token_file)
    models = {name: load_model(where, args) for name, where in zip(_names(args.model), args.model, strict=True)}

    def started(url: str) -> None:
        print(f"serving {', '.join(models)} at {url} "
              f"({'with a token' if token else 'no token: this machine only'}); Ctrl-C finishes and ends", flush=True)

    run(models, host=args.host, port=args.port, token=token, limits=limits, started=started)
    return 0


def _names(models: list[str]) -> list[str]:
    """A short name for each, told apart by number where two are equal."""
    short = [m.rsplit(":", 1)[-1] if ".py:" in m else Path(m.rstrip("/")).name or m for m in models]
    seen: Counter[str] = Counter()
    out: list[str] = []
    for name in short:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return out


def _token(file: Path | None) -> str | None:
    from plaudit.specify.text.remote import TOKEN

    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("--token-file", expected="a file with a token", received=f"{file} ({error})") from None
    if not token:
        raise BadInput("--token-file", expected="a file with a token", received=f"{file}, which is empty")
    return token
