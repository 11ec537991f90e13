"""Servers that answer in one odd way each, as public reports tell of them."""

import zlib

from support.servers import Reply, error

WORDS = ["river", "frost", "council", "market", "rain", "lantern", "orchard", "bridge"]


def last(request):
    return request.body["messages"][-1]["content"]


def texts(request):
    """What an honest server would write: different for each choice, prompt and seed."""
    seed = zlib.crc32(f"{last(request)} {request.body.get('seed')}".encode())
    count = request.body.get("n", 1)
    return [f"{WORDS[(seed + k) % 8]} {WORDS[(seed // 8 + k) % 8]} {seed % 997} {k}" for k in range(count)]


def answer(messages, reasons="stop", usage=None, **more):
    """An answer of these messages; a message may be a text, a dict or None."""
    reasons = [reasons] * len(messages) if isinstance(reasons, str | None) else reasons
    wrapped = [{"role": "assistant", "content": one} if isinstance(one, str | None) else one for one in messages]
    choices = [
        {"index": k, "message": one, "finish_reason": reason, **more}
        for k, (one, reason) in enumerate(zip(wrapped, reasons, strict=True))
    ]
    return {"choices": choices, "usage": usage or {"prompt_tokens": 20, "completion_tokens": 8 * len(messages)}}


def honest(request):
    return answer(texts(request))


def every(make, reasons="stop", **more):
    """A server whose message is made of each text."""
    return lambda request: answer([make(text) for text in texts(request)], reasons, **more)


def first(make, reason="stop"):
    """A server whose first choice is odd."""

    def odd(request):
        written = texts(request)
        return answer([make(written[0]), *written[1:]], [reason, *["stop"] * (len(written) - 1)])

    return odd


def half_fails(request):
    """Every second choice fails within an HTTP 200."""
    made = honest(request)
    for choice in made["choices"][1::2]:
        choice |= {"finish_reason": "error", "error": {"code": 502, "message": "Upstream lost"}}
        choice["message"]["content"] = ""
    return made


def refusing(word, reply):
    """A server that refuses prompts that hold a word."""
    return lambda request: reply if word in last(request) else honest(request)


def without_system(reply):
    """A server that takes no system turn."""

    def odd(request):
        return reply if any(one["role"] == "system" for one in request.body["messages"]) else honest(request)

    return odd


def limited(most, reply):
    """A server that gives at most so many choices to a request."""
    return lambda request: reply if request.body.get("n", 1) > most else honest(request)


NO_SYSTEM = {
    "vLLM": error(400, "System role not supported"),
    "OpenAI": error(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    "Gemma": error(400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    "alternating": error(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "no words": Reply(500, b"Internal Server Error", {"content-type": "text/plain"}),
}
PAGE = Reply(200, b"<!doctype html><html><head><style>b{}</style></head><body>Please <b>sign in</b></body></html>")
STREAM = Reply(200, b'data: {"choices": [{"delta": {"content": "river"}}]}\n\ndata: [DONE]\n\n')
STREAM.headers = {"content-type": "text/event-stream"}
PAGE.headers = {"content-type": "text/html"}
NO_CHOICES = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 0}}
FILTERED = error(400, "The response was filtered", code="content_filter")
