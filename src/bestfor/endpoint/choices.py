"""Read a choice of a server's answer: its text, or the reason why it has none. Policies and judges read by this alone.

Servers say the same thing in many words; each of these was met in a public report or a server's documentation:

- ``finish_reason`` error or network_error, or an ``error`` beside the message: the model's own server failed.
- ``content`` null or a list of parts, the rest in ``reasoning_content``, ``reasoning``, ``tool_calls`` or ``refusal``.
- a chain of thought within the text, between tags of which templates may have opened the first themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bestfor.data.states import EMPTY, FILTERED, REFUSED, THOUGHT, THOUGHT_CUT, TOOL

TEXT, CUT, FAILED = "text", "cut", "failed"
"""States beside those of :mod:`bestfor.data.states`: a text, one that the limit cut short, and no answer at all."""

_WORDS = 300
_FAILURES = frozenset(
    ("error", "network_error", "server_error", "internal_error", "model_error", "abort", "aborted", "cancelled")
) | {"insufficient_system_resource", "timeout", "overloaded", "engine_overloaded", "load_shed"}
FILTERS = frozenset(("content_filter", "content_filtered", "sensitive", "safety", "image_safety", "recitation")) | {
    *("prohibited_content", "blocklist", "spii", "error_toxic", "guardrail_intervened", "moderation"),
}
"""Words for what a content filter stopped."""
_LIMITS = frozenset(("length", "max_tokens", "max_output_tokens", "model_length", "error_limit")) | {
    *("context_length_exceeded", "model_context_window_exceeded", "max_tokens_reached"),
}
_TOOLS = frozenset(("tool_calls", "tool_call", "function_call", "tool_use", "malformed_function_call"))
_REFUSALS = frozenset(("refusal", "refused"))
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")

_BEGIN = (
    r"<(?:seed:)?think(?:ing)?>|&lt;think&gt;|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|channel\|>analysis<\|message\|>"
    r"|<\|begin_of_thought\|>|<unused94>(?=thought)"
)
_END = (
    r"</(?:seed:)?think(?:ing)?>|&lt;/think&gt;|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|channel\|>final<\|message\|>"
    r"|<\|end_of_thought\|>|<unused95>"
)
_CHAIN = re.compile(rf"(?:{_BEGIN}).*?(?:{_END})", re.DOTALL | re.IGNORECASE)
_LEADING = re.compile(r"\s*<(thoughts?|reasoning|scratchpad)>(?:.*?</\1>|.*\Z)|analysis.*?assistantfinal", re.DOTALL)
"""Chains of thought between words that may stand in any text: they are chains where a text begins with them."""
_UNOPENED = re.compile(r".*?</(thoughts?|reasoning|scratchpad)>", re.DOTALL)
_CALL = re.compile(
    r"\s*(?:(?:<(tool_call|function_call|tool_use|function_calls)>.*?(?:</\1>|\Z)|<function=[^>]*>.*?(?:</function>|\Z))\s*)+\Z"
    r"|\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call(?:s_begin)?\|>|<｜tool▁calls▁begin｜>).*",
    re.DOTALL,
)
"""Calls of tools that a server has not taken out of the text: a text that is nothing else is none."""
_AROUND = re.compile(r"<\|(?:begin|end)_of_solution\|>")
"""Marks of what is left when a chain is off."""
_OPENED, _CLOSED = re.compile(_BEGIN, re.IGNORECASE), re.compile(_END, re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """Choice of an answer.

    Attributes:
        state: ``text``, ``cut``, ``failed``, or a state without text of :mod:`bestfor.data.states`; a text that a
            filter cut short is ``content_filter``.
        text: what was written, without its chain of thought; empty where the state has none.
        said: how a failure, a refusal or a thought begins, for people who want to know why.
        chain: whether a chain of thought was taken off the text.
    """

    state: str
    text: str
    said: str = ""
    chain: bool = False


@dataclass(frozen=True)
class Spent:
    """Tokens of a whole answer, None where the server does not say.

    Attributes:
        completion: of all choices.
        reasoning: those among them that were thought.
    """

    completion: int | None = None
    reasoning: int | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Spent:
        """Read what an answer states."""
        usage = answer.get("usage")
        if not isinstance(usage, Mapping):
            return cls()
        details = usage.get("completion_tokens_details")
        thought = details.get("reasoning_tokens") if isinstance(details, Mapping) else None
        return cls(_count(usage.get("completion_tokens")), _count(thought))


def read_choice(choice: Mapping[str, Any], spent: Spent) -> Choice:
    """Read a choice of either kind of endpoint, ``{"message": ...}`` or ``{"text": ...}``.

    Args:
        choice: as the server sent it.
        spent: what the whole answer states of its tokens: nothing at all for no text is a failure.
    """
    reason = str(choice.get("finish_reason") or "").lower().replace("-", "_")
    if choice.get("error") or reason in _FAILURES:
        return Choice(FAILED, "", error_words(choice.get("error")) or f"finish_reason {reason}")
    message = choice.get("message")
    held = message if isinstance(message, Mapping) else {}
    content = held.get("content") if isinstance(message, Mapping) else choice.get("text")
    raw, refusal, parted = _parts(content)
    text, chain = without_chain(raw)
    called = isinstance(message, Mapping) and bool(_CALL.match(text))
    if text.strip() and not called:
        state = FILTERED if reason in FILTERS else CUT if reason in _LIMITS else TEXT
        return Choice(state, text, chain=chain)
    thought = next((str(held[name]) for name in _THOUGHTS if held.get(name)), raw if chain or parted else "")
    refusal = str(held.get("refusal") or refusal)
    thoughtful = bool(thought or spent.reasoning or chain or parted)
    limited = reason in _LIMITS and isinstance(message, Mapping) and not raw
    state = TOOL if called else _cause(reason, held, refusal) or (THOUGHT if thoughtful or limited else EMPTY)
    if state == THOUGHT and reason in _LIMITS:
        state = THOUGHT_CUT
    if state == EMPTY and (spent.completion == 0 or (content is None and spent.completion is None)):
        state = FAILED
    said = {REFUSED: refusal, FAILED: "no text, no reason and no tokens"}.get(state, thought)
    return Choice(state, "", said[:_WORDS], chain)


def without_chain(text: str) -> tuple[str, bool]:
    """Take chains of thought off a text, closed or not, whose opening tag the template may have written.

    Returns:
        The rest, as it is where there was none, and whether there was one.
    """
    leading = _LEADING.match(text) or _unopened(text)
    if leading:
        return text[leading.end() :].strip(), True
    if not _OPENED.search(text) and not _CLOSED.search(text):
        return text, False
    rest = _CHAIN.sub("", text)
    rest = _CLOSED.split(rest)[-1]
    return _AROUND.sub("", _OPENED.split(rest)[0]).strip(), True


def _unopened(text: str) -> re.Match[str] | None:
    """Find a chain of thought whose opening tag, a word that may stand in any text, was written by the template."""
    found = _UNOPENED.match(text)
    return found if found and f"<{found[1]}>" not in found[0] else None


def error_words(error: object) -> str:
    """Read the words of an ``error``, a text or an object with a message."""
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("code") or ""
    return " ".join(str(error or "").split())[:_WORDS]


def _cause(reason: str, held: Mapping[str, Any], refusal: str) -> str:
    """Name the state of a choice without a text whose server says why; empty where it does not."""
    if refusal or reason in _REFUSALS:
        return REFUSED
    if reason in FILTERS:
        return FILTERED
    if held.get("tool_calls") or held.get("function_call") or reason in _TOOLS:
        return TOOL
    return ""


def _parts(content: object) -> tuple[str, str, bool]:
    """Join a content's parts: its text, a refusal among them, and whether a thought was among them."""
    content = [content] if isinstance(content, Mapping) else content
    if not isinstance(content, list):
        return ("" if content is None else str(content)), "", False
    texts: list[str] = []
    refusal, thought = "", False
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            refusal = refusal or str(part.get("refusal") or "")
            kind = str(part.get("type") or "text")
            thought = thought or "think" in kind or "reason" in kind
            if kind in ("text", "output_text"):
                said = part.get("text")
                texts.append(str((said.get("value") if isinstance(said, Mapping) else said) or ""))
    return "".join(texts), refusal, thought


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
