"""Make ids of answers, and keys of labels that nobody named."""

from __future__ import annotations

import secrets
import time

from bestfor.serving.journal import LoggedAnswer
from bestfor.serving.labels import hash_of


def new_id() -> str:
    """Make an id: the time in milliseconds first, so that later rows stand behind earlier ones, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def place_of(
    user: str, prompt: str, answer: LoggedAnswer | None, kind: str, about: tuple[tuple[str, ...], str | None]
) -> str:
    """Name what is said by its place: the answer, or the person and the prompt; the kind; the texts it is about."""
    texts, text = about
    use = "use" if kind in ("kept", "dismissed") else kind
    many = kind in ("preference", "comment") or answer is None or text is not None
    parts = sorted(texts) if kind == "preference" else list(texts)
    spoken = hash_of("\x1f".join([prompt, *parts]))[:32] if many else ""
    whose = hash_of(user)[:32] if answer is None else answer.id
    return f"{whose}/{use}/{spoken}" if many else f"{whose}/{use}"
