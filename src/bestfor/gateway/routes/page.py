"""Serve the page at ``/`` for those who run a gateway, and take its forms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote

import jinja2
from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bestfor.errors import BestforError
from bestfor.gateway.answering import CHAT
from bestfor.gateway.errors import ApiError, wrong
from bestfor.gateway.identity import check_user
from bestfor.gateway.page.session import Session, begin_session, check_token, open_session
from bestfor.gateway.page.views import NO_NAME, SERVED, answer_rows, named_people, overview, prompts
from bestfor.gateway.routes.answers import base_of
from bestfor.gateway.state import Gateway
from bestfor.labels.records import LoggedAnswer
from bestfor.labels.said import Statement

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_STATIC = {"style.css": "text/css; charset=utf-8", "script.js": "text/javascript; charset=utf-8"}
_FIELDS = 16
"""Fields of a form at most."""


class PageRoutes:
    """Routes of the page; they need an admin key once, or the loopback.

    Args:
        gateway: what they share.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.router = APIRouter(include_in_schema=False)
        add = self.router.add_api_route
        add("/", self.people, methods=["GET"])
        add("/playground", self.playground, methods=["GET"])
        add("/playground", self.ask, methods=["POST"])
        add("/page/login", self.login, methods=["POST"])
        add("/page/feedback", self.feedback, methods=["POST"])
        add("/page/forget", self.forget, methods=["POST"])
        add("/page/{name}", self.static, methods=["GET"])

    async def static(self, name: str) -> Response:
        """Give the page's style or its script."""
        if name not in _STATIC:
            raise ApiError(404, "no such path")
        return Response(_file(name), media_type=_STATIC[name], headers={"X-Content-Type-Options": "nosniff"})

    async def login(self, request: Request) -> Response:
        """Let a browser in that gives an admin key."""
        form = await _form(request)
        session = begin_session(self._gateway.access, form.get("key", ""))
        if session is None:
            return self._render(request, None, "login", {"message": "This is no admin key of this gateway."}, 403)
        response = RedirectResponse(f"{_root(request)}/", 303, _HEADERS)
        session.put(response, secure=request.url.scheme == "https")
        return response

    async def people(self, request: Request) -> Response:
        """Show people and recent answers, or one person."""
        session = open_session(self._gateway.access, request)
        if session is None:
            return self._render(request, None, "login", {})
        user, like = request.query_params.get("user") or None, request.query_params.get("like", "")
        return await self._people(request, session, user, like)

    async def playground(self, request: Request) -> Response:
        """Show the form of the playground."""
        session = open_session(self._gateway.access, request)
        if session is None:
            return self._render(request, None, "login", {})
        return await self._playground(request, session, {}, [])

    async def ask(self, request: Request) -> Response:
        """Sample candidates once, and pick from them for two people."""
        session, form = await self._admitted(request)
        try:
            first = await self._sample(request, session, form)
            second = await asyncio.to_thread(self._pick, session, form.get("second", ""), first)
        except BestforError as error:
            return await self._playground(request, session, form, [], message=str(error))
        return await self._playground(request, session, form, [first, second])

    async def feedback(self, request: Request) -> Response:
        """Keep a thumb or an edit; from the playground, ask both people again."""
        session, form = await self._admitted(request)
        service = self._gateway.services.of(session.caller.tenant)
        kind = "thumb" if "thumb" in form else "edit"
        said = Statement(thumb=form["thumb"] == "yes") if kind == "thumb" else Statement(edit=form.get("edit", ""))
        try:
            done = await asyncio.to_thread(lambda: service.learn(form.get("answer", ""), **said))
        except BestforError as error:
            return await self._people(request, session, None, "", message=str(error))
        self._gateway.meters.feedback.labels(kind, done.status).inc()
        again = form.get("again")
        before = None if not again else await asyncio.to_thread(self._both, session, again)
        if not before:
            back = form.get("back", "/")
            place = back if back == "/" or back.startswith("/?user=") else "/"
            return RedirectResponse(f"{_root(request)}{place}#a{quote(form.get('answer', ''))}", 303, _HEADERS)
        answers = [await asyncio.to_thread(self._pick, session, one.user, before[0]) for one in before]
        return await self._playground(request, session, {**form, "prompt": before[0].prompt}, answers, before)

    async def forget(self, request: Request) -> Response:
        """Remove a person for good."""
        session, form = await self._admitted(request)
        service = self._gateway.services.of(session.caller.tenant)
        done = await asyncio.to_thread(service.forget, form.get("user", ""))
        held = f" Still held by {', '.join(done.still_held)}." if done.still_held else ""
        message = f"Removed {done.answers} answers and {done.labels} labels of {done.user}.{held}"
        return await self._people(request, session, None, "", message=message)

    async def _admitted(self, request: Request) -> tuple[Session, dict[str, str]]:
        """Read a form of an admitted browser.

        Raises:
            ApiError: no session (401), or a form of another page (403).
        """
        session = open_session(self._gateway.access, request)
        if session is None:
            raise ApiError(401, "no session: open the page and give an admin key", code="missing_session")
        form = await _form(request)
        check_token(session, form.get("csrf", ""))
        return session, form

    async def _people(
        self, request: Request, session: Session, user: str | None, like: str, message: str = ""
    ) -> Response:
        tenant, gateway = session.caller.tenant, self._gateway
        view = await asyncio.to_thread(overview, gateway.services, tenant, gateway.writer.shown, user, like)
        known = {"here": "people", "view": view, "user": user, "like": like, "message": message}
        return self._render(request, session, "people", known)

    async def _playground(
        self,
        request: Request,
        session: Session,
        form: Mapping[str, str],
        answers: list[LoggedAnswer],
        before: list[LoggedAnswer] | None = None,
        message: str = "",
    ) -> Response:
        services, tenant = self._gateway.services, session.caller.tenant
        known = await asyncio.to_thread(named_people, services, tenant)
        offered = await asyncio.to_thread(prompts, services, tenant)
        defaults = self._gateway.config.defaults
        rows = await asyncio.to_thread(answer_rows, services.of(tenant), answers)
        changed = [False] * len(answers)
        if before:
            changed = [one.shown != then.shown for one, then in zip(answers, before, strict=True)]
        people = [*known, "ann", "ben"]
        values = {
            **{"here": "playground", "message": message, "offered": offered, "known": known, "most": defaults.most},
            **{"prompt": form.get("prompt", ""), "n": form.get("n") or defaults.n, "answers": rows, "changed": changed},
            **{"first": form.get("first") or people[0], "second": form.get("second") or people[1]},
            "again": " ".join(one.id for one in answers),
        }
        return self._render(request, session, "playground", values)

    async def _sample(self, request: Request, session: Session, form: Mapping[str, str]) -> LoggedAnswer:
        """Ask for the first person through the gateway itself, as any client does.

        Raises:
            ApiError: a field that is wrong, or whatever a client would have got.
        """
        gateway, prompt, user = self._gateway, form.get("prompt", "").strip(), form.get("first", "").strip()
        count, most = form.get("n", ""), gateway.config.defaults.most
        check_user("first", user)
        if not prompt:
            raise wrong("prompt", "expected something to ask")
        if not (count.isascii() and count.isdecimal() and 1 <= int(count) <= most):
            raise wrong("n", f"expected a number from 1 to {most}")
        models = await gateway.writer.models()
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "bestfor": {"n": int(count), "detail": "short"},
            **({"model": models[0]["id"]} if models else {}),
        }
        asked = Headers({"X-Bestfor-User": user})
        question = gateway.answering.read(session.caller, CHAT, asked, body, base_of(request))
        answered = await gateway.answering.answer(question)
        id = answered.headers.get("X-Bestfor-Answer", "")
        found = await asyncio.to_thread(gateway.services.journal.answer, session.caller.tenant, id)
        if found is None or found.hashed:
            raise ApiError(503, "the playground needs a journal that can be written and keeps texts")
        return found

    def _pick(self, session: Session, user: str, like: LoggedAnswer) -> LoggedAnswer:
        """Pick from the candidates of an answer for a person, and log it."""
        service, tenant = self._gateway.services.of(session.caller.tenant), session.caller.tenant
        check_user("second", user.strip())
        served = service.answer(user.strip(), like.prompt, list(like.texts))
        found = service.journal.answer(tenant, served.id)
        if found is None:
            raise ApiError(503, "the playground needs a journal that can be written")
        return found

    def _both(self, session: Session, again: str) -> list[LoggedAnswer]:
        """Find the answers that stood on the playground before."""
        journal, tenant = self._gateway.services.journal, session.caller.tenant
        found = [journal.answer(tenant, id) for id in again.split()[:2]]
        kept = [one for one in found if one is not None]
        return kept if len(kept) == 2 else []

    def _render(
        self, request: Request, session: Session | None, name: str, values: Mapping[str, Any], status: int = 200
    ) -> Response:
        known = {"root": _root(request), "message": "", "no_name": NO_NAME, "served": SERVED, **values}
        if session is not None:
            known |= {"token": session.token, "tenant": session.caller.tenant}
        text = _templates().get_template(f"{name}.html.j2").render(known)
        response = HTMLResponse(text.encode(errors="replace"), status, _HEADERS)
        if session is not None:
            session.put(response, secure=request.url.scheme == "https")
        return response


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("bestfor.gateway.page")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)


@cache
def _file(name: str) -> bytes:
    return (files("bestfor.gateway.page") / "templates" / name).read_bytes()


async def _form(request: Request) -> dict[str, str]:
    """Read a form's fields, the last of each name.

    Raises:
        ApiError: it is none (400).
    """
    try:
        raw = (await request.body()).decode(errors="replace")
        return {name: values[-1] for name, values in parse_qs(raw, True, max_num_fields=_FIELDS).items()}
    except ValueError as error:
        raise ApiError(400, "body: expected a form") from error


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
