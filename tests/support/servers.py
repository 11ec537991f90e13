"""OpenAI-compatible servers on loopback that do what a script says, faults included."""

import contextlib
import json
import math
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DROP, STALL, HALF, RESET = "drop", "stall", "half", "reset"


@dataclass
class Reply:
    """A status with a body (JSON, or bytes as they are) and headers."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What a client sent: the path with its query, headers with names in lower case, and the JSON."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    number: int


class Scripted:
    """A server that answers each request with what ``answer(request)`` returns.

    That is a dict (sent as JSON), a ``Reply``, or a fault: ``DROP`` closes the connection without a word, ``RESET``
    breaks it, ``HALF`` sends half of a JSON as if it were whole, ``STALL`` says nothing until the server is closed.
    """

    def __init__(self, answer):
        self.answer, self.requests, self.lock, self.ended = answer, [], threading.Lock(), threading.Event()
        self.connections = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                outer.connections.append(self.request)
                super().setup()

            def do_POST(self):
                outer.handle(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False
            request_queue_size = 128

            def handle_error(self, *_):
                """A client that has gone is part of the game."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def handle(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self.lock:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            request = Request(handler.path, headers, body, len(self.requests))
            self.requests.append(request)
        reply = self.answer(request)
        if reply == STALL:
            self.ended.wait()
        if reply in (DROP, STALL, RESET):
            if reply == RESET:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            return
        if reply == HALF:
            whole = json.dumps(chat("half of this is lost")).encode()
            reply = Reply(body=whole[: len(whole) // 2])
        reply = reply if isinstance(reply, Reply) else Reply(body=reply)
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        with contextlib.suppress(OSError):
            handler.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.thread.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server.server_close()


def chat(*texts, usage=(10, 5), finish="stop", **more):
    """A chat answer with one choice for each text."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish, "logprobs": None}
        for i, text in enumerate(texts)
    ]
    answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
    if usage:
        answer["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return answer | more


def error(status, message="no", headers=None, **more):
    """An error as OpenAI words it."""
    return Reply(status, {"error": {"message": message, "type": "error", **more}}, headers or {})


def sampling(make):
    """A server that honours n, stop, seed and logprobs: ``make(body)`` gives the prompt and the policy that answers."""
    lock = threading.Lock()

    def answer(request):
        body = request.body
        with lock:
            prompt, policy = make(body)
            [written] = policy.sample([prompt], body.get("n", 1), seed=body["seed"])
            length = policy.count(body["messages"])
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": one.text},
                "finish_reason": one.finish_reason,
                "logprobs": {"content": [{"token": "", "logprob": one.logprob / one.tokens}] * one.tokens},
            }
            for index, one in enumerate(written)
        ]
        used = sum(one.tokens for one in written)
        return {"choices": choices, "usage": {"prompt_tokens": length, "completion_tokens": used}}

    return answer


def parts(request):
    """What stands between tags of the last turn, by tag; repeated tags have all their texts."""
    found = {}
    for tag, text in re.findall(r"<(\w+)>\n(.*?)\n</\1>", request.body["messages"][-1]["content"], re.DOTALL):
        found.setdefault(tag, []).append(text)
    return found


def marked(masses, usage=(50, 1)):
    """A score with the probabilities of the tokens that it could have been: ``{"4": 0.5, "5": 0.25}``."""
    best = max(masses, key=masses.get)
    answer = chat(best, usage=usage)
    top = [{"token": token, "logprob": math.log(mass)} for token, mass in masses.items()]
    chosen = {"token": best, "logprob": math.log(masses[best]), "top_logprobs": top}
    answer["choices"][0]["logprobs"] = {"content": [chosen]}
    return answer


def judging(score=None, better=None, write=None):
    """A server that is a reward model's judge: it writes personas, scores texts and compares pairs.

    Each is a function of the request's parts; what they return is a reply, or what the model would say.
    """

    def said(value):
        return value if isinstance(value, dict | Reply) or value in (DROP, STALL, HALF, RESET) else chat(str(value))

    def answer(request):
        found, told = parts(request), request.body["messages"][0]["content"]
        if "<persona>...</persona>" in told:
            liked = (found.get("liked") or found.get("item") or ["nobody"])[-1]
            return said((write or (lambda _: persona(f"Likes {liked}", f"Is like {liked}")))(found))
        if "first" in found:
            pair = (found["first"][0], found["second"][0])
            return said((better or (lambda _: 1 if len(pair[0]) >= len(pair[1]) else 2))(found))
        return said((score or (lambda _: 1 + len(found["text"][0]) % 5))(found))

    return answer


def persona(who, rubric):
    """A persona and a rubric as a model writes them."""
    return f"Here they are.\n<persona>\n{who}\n</persona>\n<rubric>\n{rubric}\n</rubric>"
