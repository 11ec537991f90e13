"""Serve feedback: labels by API key, labels by signed link, and the question which two to show."""

from __future__ import annotations

import asyncio
import html
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from bestfor.gateway.errors import ApiError, wrong
from bestfor.gateway.identity import check_user
from bestfor.gateway.links import AnswerLink, verify
from bestfor.gateway.routes.schemas import AskBody, FeedbackBody, PatchBody, documented
from bestfor.gateway.state import Gateway
from bestfor.gateway.wire import Json, header_text, read_model, read_object
from bestfor.serving.journal import Label, Learned
from bestfor.serving.service import Service

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>{title}</title>
<style>body{{font:18px/1.5 sans-serif;max-width:36em;margin:3em auto;padding:0 1em}}
button{{font:inherit;padding:.4em 1em}}
textarea{{width:100%;font:inherit}}</style><h1>{title}</h1>{body}</html>"""
_FORM = """<form method="post"><p><button name="thumb" value="yes">It was good</button>
<button name="thumb" value="no">It was not</button></p></form>"""
_HEADERS = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY"}


class FeedbackRoutes:
    """Routes by which people say what they think.

    Args:
        gateway: what they share.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.router = APIRouter(tags=["feedback"])
        add = self.router.add_api_route
        add("/v1/feedback", self.learn, methods=["POST"], openapi_extra=documented(FeedbackBody))
        add("/v1/feedback/{key:path}", self.change, methods=["PATCH"], openapi_extra=documented(PatchBody))
        add("/v1/feedback/{key:path}", self.withdraw, methods=["DELETE"])
        add("/v1/ask", self.ask, methods=["POST"], openapi_extra=documented(AskBody))
        add("/f/{token}", self.show, methods=["GET"], include_in_schema=False)
        add("/f/{token}", self.vote, methods=["POST"], include_in_schema=False)

    async def learn(self, request: Request) -> Response:
        """Keep what a person says; it is on the disk before this answers, and the next answer knows it."""
        caller = self._gateway.access.admit(request)
        body: FeedbackBody = read_model(FeedbackBody, await read_object(request))
        header = header_text(request.headers.get("Idempotency-Key", ""))
        if header and body.key and header != body.key:
            raise wrong("Idempotency-Key", "found another key than the body's; expected the same, or one of both")
        key = body.key or header or None
        if body.user is not None:
            check_user("user", body.user)
        done = await asyncio.to_thread(self._learn, caller.tenant, body, key)
        return Json(_receipt(done), 201 if done.status == "new" else 200)

    async def change(self, request: Request, key: str) -> Response:
        """Change the value of a label."""
        caller = self._gateway.access.admit(request)
        body: PatchBody = read_model(PatchBody, await read_object(request))
        service = self._gateway.services.of(caller.tenant)
        label = await asyncio.to_thread(service.journal.label, caller.tenant, key)
        if label is None or label.withdrawn is not None:
            raise ApiError(404, "key: found no label of this key; expected one that holds", param="key")
        if body.kind not in (None, label.kind):
            raise wrong("kind", f"found '{body.kind}'; expected '{label.kind}', which stays")
        given = FeedbackBody(
            answer_id=label.answer,
            kind=label.kind,  # pyright: ignore[reportArgumentType] - kinds of stored labels are known
            value=body.value,
            text=_text_of(label, body),
            over=body.over,
            user=label.user if label.answer is None else None,
            prompt=label.prompt,
        )
        return Json(_receipt(await asyncio.to_thread(self._learn, caller.tenant, given, key)))

    async def withdraw(self, request: Request, key: str) -> Response:
        """Withdraw a label for good."""
        caller = self._gateway.access.admit(request)
        service = self._gateway.services.of(caller.tenant)
        if not await asyncio.to_thread(service.withdraw, key):
            raise ApiError(404, "key: found no label of this key; expected one that holds", param="key")
        self._gateway.meters.feedback.labels("any", "withdrawn").inc()
        return Json({"key": key, "status": "withdrawn"})

    async def ask(self, request: Request) -> Response:
        """Choose which two texts to show a person, so that their preference is worth most."""
        caller = self._gateway.access.admit(request)
        body: AskBody = read_model(AskBody, await read_object(request))
        check_user("user", body.user)
        service = self._gateway.services.of(caller.tenant)
        return Json(await asyncio.to_thread(_ask, service, body))

    async def show(self, request: Request, token: str) -> Response:
        """Show a tiny page; only its form counts, so that previews of links vote for nothing."""
        link = self._link(token)
        if link is None:
            return _page("This link no longer holds", "<p>It has expired, or it was not made here.</p>", 404)
        answer = await asyncio.to_thread(self._gateway.services.journal.answer, link.tenant, link.answer)
        if answer is None:
            return _page("This answer is no longer kept", "<p>There is nothing left to say about it.</p>", 404)
        shown = "" if answer.hashed else f"<blockquote>{html.escape(answer.shown[:2000])}</blockquote>"
        return _page("How was this answer?", shown + _FORM)

    async def vote(self, request: Request, token: str) -> Response:
        """Count what the tiny page's form says; said again, it changes."""
        link = self._link(token)
        if link is None:
            return _page("This link no longer holds", "<p>It has expired, or it was not made here.</p>", 404)
        form = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=8)
        thumb = {"yes": True, "no": False}.get(form.get("thumb", [""])[0])
        if thumb is None:
            return _page("Nothing was said", f"<p>Please choose one.</p>{_FORM}", 400)
        body = FeedbackBody(answer_id=link.answer, kind="thumb", value=thumb)
        await asyncio.to_thread(self._learn, link.tenant, body, None)
        return _page("Thank you", "<p>The next answer knows it.</p>")

    def _link(self, token: str) -> AnswerLink | None:
        return verify(token, self._gateway.access.ring, time.time())

    def _learn(self, tenant: str, body: FeedbackBody, key: str | None) -> Learned:
        service = self._gateway.services.of(tenant)
        said, text = said_of_body(body)
        done = service.learn(body.answer_id, user=body.user, prompt=body.prompt, text=text, key=key, **said)
        self._gateway.meters.feedback.labels(body.kind, done.status).inc()
        return done


def said_of_body(body: FeedbackBody) -> tuple[dict[str, Any], str | None]:
    """Read what is said, and the text that it is said of where one is named.

    Raises:
        ApiError: a value that the kind does not take, the field named.
    """
    kind, value = body.kind, body.value
    if body.over is not None and kind != "preference":
        raise wrong("over", "expected only with kind 'preference'")
    if kind in ("edit", "comment"):
        if value is not None:
            raise wrong("value", f"expected no value with kind '{kind}', but 'text'")
        return {kind: body.text or ""}, None
    if kind in ("kept", "dismissed"):
        if value not in (None, True):
            raise wrong("value", f"expected true, or nothing, with kind '{kind}'")
        return {kind: True}, body.text
    if kind == "preference":
        return {"prefer": _ranking(body)}, body.text
    if value is None:
        raise wrong("value", f"expected one with kind '{kind}'")
    if kind == "thumb":
        if value not in (True, False):
            raise wrong("value", "expected true or false with kind 'thumb'")
        return {"thumb": bool(value)}, body.text
    return {"rating": value}, body.text


def _ranking(body: FeedbackBody) -> list[int | str]:
    value = body.value
    if value is None or isinstance(value, bool):
        raise wrong("value", "expected the preferred candidate, its index or text, or a ranking, best first")
    if isinstance(value, float):
        if value != int(value):
            raise wrong("value", "expected a whole number, the index of a candidate")
        value = int(value)
    ranked = list(value) if isinstance(value, list) else [value]
    return [*ranked, body.over] if body.over is not None else ranked


def _text_of(label: Label, body: PatchBody) -> str | None:
    """Give the text that a changed label speaks of."""
    if body.text is not None or label.kind in ("edit", "comment", "preference"):
        return body.text
    return label.texts[0] if label.texts and not label.hashed else None


def _receipt(done: Learned) -> Mapping[str, Any]:
    return {"key": done.key, "status": done.status, **({"note": done.note} if done.note else {})}


def _ask(service: Service, body: AskBody) -> dict[str, Any]:
    """Choose the pair; what they prefer is said by user, prompt and the two texts."""
    question = service.ask(body.user, body.prompt, body.texts, rule=body.rule, seed=secrets.randbits(32))
    distinct = list(dict.fromkeys(body.texts))
    rewards = [float(question.scores.mean[distinct.index(text)]) for text in question.texts]
    rows = zip(question.places, question.texts, rewards, strict=True)
    return {
        "user": question.user,
        "prompt": question.prompt,
        "rule": question.rule,
        "pair": [{"index": place, "text": text, "reward": reward} for place, text, reward in rows],
        "served": question.served,
        "notes": list(question.notes),
    }


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(title=title, body=body), status, _HEADERS)
