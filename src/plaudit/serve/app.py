"""The application: paths, token, sizes and times around the batchers; transport is uvicorn's business."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncGenerator, Mapping
from time import perf_counter
from typing import Any

from plaudit import __version__
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.learn.text.scored import Scored
from plaudit.learn.text.scorers import as_scorer
from plaudit.serve import wire
from plaudit.serve.batching import Batcher
from plaudit.serve.limits import Limits, Refused
from plaudit.serve.metrics import Metrics
from plaudit.serve.shapes import SHAPES, activated
from plaudit.serve.threads import end, threads_for

DISCARD = 8
"""How many times the allowed body is read (and dropped) so that a client gets to see its 413."""


def build_app(models: Mapping[str, Any], *, limits: Limits | None = None, token: str | None = None) -> Any:
    """An ASGI application that scores texts.

    Args:
        models: TextRewards, or any other Rewards of texts, by name; requests that name none get the first.
        limits: Sizes and times.
        token: What clients have to send as `Authorization: Bearer TOKEN`; None asks for none.

    Raises:
        MissingExtra: without fastapi.
        BadInput: when there is no model.
    """
    if not models:
        raise BadInput("models", expected="at least one model", received="none")
    if token is not None and not token.strip():
        raise BadInput("token", expected="some characters, or None", received="an empty token")
    fastapi = require("fastapi", extra="serve")
    service = Service(models, limits=limits or Limits(), token=token, fastapi=fastapi)
    app = fastapi.FastAPI(title="plaudit", version=__version__, lifespan=service.lifespan,
                          description="Scores completions; see the page on serving in plaudit's documentation.")
    app.state.service = service
    for path, parse in SHAPES.items():
        _route(app, fastapi, path, service.scoring(path), "POST", (parse.__doc__ or "").split("\n")[0])
    _route(app, fastapi, "/health", service.health, "GET", "Whether the service takes requests, and which models.")
    _route(app, fastapi, "/v1/models", service.list_models, "GET", "The models, as OpenAI-compatible clients ask.")
    _route(app, fastapi, "/metrics", service.page, "GET", "Numbers for Prometheus.")
    return app


def _route(app: Any, fastapi: Any, path: str, endpoint: Any, method: str, summary: str) -> None:
    async def call(request: Any) -> Any:
        return await endpoint(request)

    call.__annotations__ = {"request": fastapi.Request, "return": fastapi.Response}
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
    app.add_api_route(path, call, methods=[method], summary=summary, response_model=None,
                      openapi_extra=body if method == "POST" else None)


class Service:
    """What the paths share: the queues, the scoring threads, the counts."""

    def __init__(self, models: Mapping[str, Any], *, limits: Limits, token: str | None, fastapi: Any) -> None:
        self.limits, self.token, self.fastapi = limits, token, fastapi
        self.metrics = Metrics()
        self.threads = threads_for(models)
        self.batchers = {name: Batcher(name, as_scorer(model), limits=limits, executor=self.threads[name],
                                       metrics=self.metrics) for name, model in models.items()}

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[None]:
        """Runs the queues while the application lives."""
        tasks = [asyncio.create_task(batcher.run()) for batcher in self.batchers.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            end(self.threads.values())

    # --- paths ---------------------------------------------------------------------------------------------

    def scoring(self, path: str) -> Any:
        """The endpoint of one shape."""
        parse = SHAPES[path]

        async def endpoint(request: Any) -> Any:
            start = perf_counter()
            status = 500
            try:
                self._authorise(request)
                ask = parse(wire.decode(await self._body(request)))
                wire.check_size(ask, self.limits)
                batcher = self._batcher(ask.model)
                rows = await self._scores(request, batcher, ask)
                if ask.activated and getattr(batcher.scorer, "activation", None) == "sigmoid":
                    rows = [activated(row) for row in rows]
                content = ask.answer(batcher.name, rows)
                status = 200
                return self._json(content)
            except BadInput as error:
                status = 422
                return self._refusal(Refused.bad_input(error))
            except Refused as refusal:
                status = refusal.status
                return self._refusal(refusal)
            finally:
                self.metrics.request(path, status, perf_counter() - start)

        return endpoint

    async def health(self, request: Any) -> Any:
        """200 while the service takes requests, and 503 while a model is stuck: it would only be answered with 504."""
        stuck = {name: round(b.stuck_s, 1) for name, b in self.batchers.items() if b.stuck_s}
        about = {"models": list(self.batchers), "waiting": {name: b.texts for name, b in self.batchers.items()}}
        if stuck:
            return self._json({"status": "stuck", "stuck_s": stuck, **about}, 503)
        return self._json({"status": "ok", **about})

    async def list_models(self, request: Any) -> Any:
        """The models by name, and the columns of the data that each reads."""
        return self._guarded(request, lambda: self._json({"object": "list", "data": [
            {"id": name, "object": "model", "owned_by": "plaudit", "reads": batcher.reads.to_json()}
            for name, batcher in self.batchers.items()]}))

    async def page(self, request: Any) -> Any:
        """Prometheus' page."""
        return self._guarded(request, lambda: self.fastapi.Response(self.metrics.page(),
                                                                    media_type=self.metrics.content_type))

    # --- parts ---------------------------------------------------------------------------------------------

    def _authorise(self, request: Any) -> None:
        if self.token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise Refused(401, "unauthorised", "the bearer token is missing or wrong",
                          expected="Authorization: Bearer TOKEN", fix="send the token that the server was started with")

    def _guarded(self, request: Any, make: Any) -> Any:
        try:
            self._authorise(request)
            return make()
        except Refused as refusal:
            return self._refusal(refusal)

    def _batcher(self, model: str | None) -> Batcher:
        if model is None:
            return next(iter(self.batchers.values()))
        if model not in self.batchers:
            raise Refused(404, "unknown_model", f"no model {model!r} is served here", argument="model",
                          expected=f"one of {', '.join(self.batchers)}", received=model[:200])
        return self.batchers[model]

    async def _body(self, request: Any) -> bytes:
        """The body, not longer and not later than allowed."""
        try:
            return await asyncio.wait_for(self._read(request), self.limits.receive_s)
        except TimeoutError:
            raise Refused(408, "too_slow", f"the body did not arrive within {self.limits.receive_s:g} s",
                          fix="send it faster, or in smaller requests") from None

    async def _read(self, request: Any) -> bytes:
        parts: list[bytes] = []
        total, more, limit = 0, True, self.limits.body_bytes
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                self.metrics.gone()
                raise Refused(499, "gone", "the client left before its request was complete")
            part, more = message.get("body", b""), message.get("more_body", False)
            total += len(part)
            if total <= limit:
                parts.append(part)
            elif total > DISCARD * limit:
                break
        if total > limit:
            raise Refused(413, "too_large", f"the body has more than {limit} bytes", argument="body",
                          expected=f"at most {limit} bytes", fix="send several requests")
        return b"".join(parts)

    async def _scores(self, request: Any, batcher: Batcher, ask: wire.Ask) -> list[Scored]:
        """Waits for the scores, or until the client leaves or the time is up."""
        job = batcher.submit(ask)
        leaving = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({job.done, leaving}, timeout=self.limits.answer_s,
                               return_when=asyncio.FIRST_COMPLETED)
            if job.done.done():
                rows = job.done.result()
                self.metrics.scored(batcher.name, texts=len(rows), unknown=sum(not r.known for r in rows),
                                    tokens=sum(r.length for r in rows))
                return rows
            batcher.give_up(job)
            if leaving.done():
                self.metrics.gone()
                raise Refused(499, "gone", "the client left before its scores were ready")
            raise Refused(504, "too_slow", f"no scores within {self.limits.answer_s:g} s", retry_after_s=5)
        finally:
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving

    def _json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return self.fastapi.Response(text.encode("utf-8", "replace"), status_code=status, headers=headers,
                                     media_type="application/json")

    def _refusal(self, refusal: Refused) -> Any:
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        if refusal.retry_after_s is not None:
            headers["Retry-After"] = str(refusal.retry_after_s)
        return self._json(refusal.body(), refusal.status, headers)
