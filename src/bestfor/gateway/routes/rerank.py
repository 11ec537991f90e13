"""Serve ``/v1/rerank``: texts that a team has sampled itself, ordered for one person."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bestfor.gateway.answering import NO_USER, new_id
from bestfor.gateway.errors import wrong
from bestfor.gateway.identity import NOBODY
from bestfor.gateway.routes.schemas import RerankBody, documented
from bestfor.gateway.state import Gateway
from bestfor.gateway.wire import Json, read_model, read_object
from bestfor.serving.service import Service


class RerankRoutes:
    """Routes that order texts.

    Args:
        gateway: what they share.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.router = APIRouter(tags=["rerank"])
        for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
            shown = path == "/v1/rerank"
            extra = documented(RerankBody)
            self.router.add_api_route(path, self.rerank, methods=["POST"], openapi_extra=extra, include_in_schema=shown)

    async def rerank(self, request: Request) -> Response:
        """Order documents for a person, best first; scores are rewards, in the served model's units."""
        caller = self._gateway.access.admit(request)
        await self._gateway.limits.request(caller.tenant)
        raw = await read_object(request)
        body: RerankBody = read_model(RerankBody, raw)
        user = self._gateway.answering.identity.user(request.headers, raw)
        texts = [_text(place, one) for place, one in enumerate(body.documents)]
        service = await asyncio.to_thread(self._gateway.services.of, caller.tenant)
        return Json(await asyncio.to_thread(_ordered, service, user, body, texts))


def _text(place: int, document: str | dict[str, Any]) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise wrong(f"documents[{place}]", "expected a text, or an object with a text")
    return text


def _ordered(service: Service, user: str | None, body: RerankBody, texts: list[str]) -> dict[str, Any]:
    """Score the distinct texts, log them as an answer, and order all."""
    id, distinct = new_id(), list(dict.fromkeys(texts))
    named = NOBODY + id if user is None else user
    answer = service.answer(named, body.query, distinct, id=id, everybody=user is None)
    mean = np.nan_to_num(np.asarray(answer.scores.mean, dtype=np.float64), nan=-np.inf)
    reward = np.array([mean[distinct.index(text)] for text in texts])
    order = np.argsort(-reward, kind="stable")[: body.top_n]
    results = []
    for place in order.tolist():
        score = float(reward[place]) if np.isfinite(reward[place]) else None
        row: dict[str, Any] = {"index": place, "relevance_score": score}
        if body.return_documents:
            row["document"] = {"text": texts[place]}
        results.append(row)
    notes = [*([] if user else [NO_USER]), *answer.heard]
    told = {"answer_id": answer.id, "user": user, "served": answer.served, "notes": notes}
    usage = {"total_tokens": 0, "prompt_tokens": 0}
    return {"id": answer.id, "model": body.model, "results": results, "usage": usage, "bestfor": told}
