"""Serve what is known of a person, all of it as JSON lines, and their removal."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bestfor.gateway.errors import ApiError
from bestfor.gateway.page.views import expected_gain
from bestfor.gateway.state import Gateway
from bestfor.gateway.wire import Json
from bestfor.serving.service import Service


class PeopleRoutes:
    """Routes about people; they need an admin key, whose tenant's people these are.

    Args:
        gateway: what they share.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.router = APIRouter(tags=["users"])
        add = self.router.add_api_route
        add("/v1/users/{user:path}/export", self.export, methods=["GET"])
        add("/v1/users/{user:path}", self.show, methods=["GET"])
        add("/v1/users/{user:path}", self.forget, methods=["DELETE"])

    async def show(self, request: Request, user: str) -> Response:
        """Say what is known of a person: labels, what serves them, gains."""
        service = self._service(request)
        return Json(await asyncio.to_thread(_known, service, user))

    async def export(self, request: Request, user: str) -> Response:
        """Give all that is kept of a person as JSON lines."""
        service = self._service(request)
        lines = await asyncio.to_thread(service.export, user)
        return Response(lines.encode(errors="surrogatepass"), media_type="application/x-ndjson")

    async def forget(self, request: Request, user: str) -> Response:
        """Remove a person for good, and name what still holds them."""
        service = self._service(request)
        receipt = await asyncio.to_thread(service.forget, user)
        return Json(asdict(receipt))

    def _service(self, request: Request) -> Service:
        caller = self._gateway.access.admit(request, admin=True)
        return self._gateway.services.of(caller.tenant)


def _known(service: Service, user: str) -> dict[str, Any]:
    """Count a person's labels and answers.

    Raises:
        ApiError: nothing is known of them.
    """
    standing = service.journal.standing(service.tenant, user)
    labels = [label for label, _ in service.journal.labels_of(service.tenant, user)]
    answers = service.journal.answers_of(service.tenant, user)
    person = service.person(user) if service.model.learns else None
    fitted = person is not None and person.served != "everybody"
    if standing.revision is None and not standing.forgotten and not fitted:
        raise ApiError(404, "user: found nobody of this id; expected a known one", param="user")
    held = Counter(label.kind for label in labels if label.withdrawn is None)
    gains = [gain for gain in map(expected_gain, answers) if gain is not None]
    return {
        "user": user,
        "forgotten": standing.forgotten,
        "labels": dict(sorted(held.items())),
        "withdrawn": sum(label.withdrawn is not None for label in labels),
        "answers": len(answers),
        "served": None if person is None else person.served,
        "expected_gain": float(np.mean(gains)) if gains else None,
        "last_answer": max((answer.time for answer in answers), default=None),
    }
