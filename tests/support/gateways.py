"""Gateways that really listen on loopback, and upstreams for them."""

import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import httpx2
import uvicorn

from support.servers import Scripted, chat

MESSAGES = [{"role": "user", "content": "an animal"}]
WORDS = ("red fish", "ann-word here", "ben-word here", "blue fish", "green bird", "old cat", "new dog", "wild horse")


def writes(*texts, **more):
    """An upstream that honours n and writes these texts in turn."""
    words = texts or WORDS

    def answer(request):
        count = request.body.get("n", 1)
        return chat(*(words[place % len(words)] for place in range(count)), **more)

    return answer


def single(*texts):
    """An upstream that gives one choice whatever n says."""
    lock, given = threading.Lock(), []

    def answer(request):
        with lock:
            given.append(1)
            return chat((texts or WORDS)[(len(given) - 1) % len(texts or WORDS)])

    return answer


@dataclass
class Running:
    """A gateway that listens."""

    url: str
    app: object
    http: httpx2.Client
    upstream: Scripted | None
    journal: str
    stop: object = field(repr=False, default=None)

    def ask(self, user=None, /, *, headers=None, **body):
        given = {"model": "m", "messages": MESSAGES, **body}
        return self.http.post("/v1/chat/completions", json=given, headers=headers or as_user(user))

    def text(self, user=None, /, **body):
        return self.ask(user, **body).json()["choices"][0]["message"]["content"]

    def learn(self, answer, kind="thumb", **body):
        return self.http.post("/v1/feedback", json={"answer_id": answer, "kind": kind, **body})


def as_user(user):
    return {} if user is None else {"X-Bestfor-User": user}


def listen(app):
    """Serve an application on a free port of loopback; gives its address and what ends it."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(256)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()

    def stop():
        server.should_exit = True
        thread.join()
        listening.close()

    return f"http://127.0.0.1:{listening.getsockname()[1]}", stop


class Process:
    """``bestfor serve`` as its own process, on a free port."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bestfor", "serve", *map(str, words), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        while (found := re.search(r"(http://127\.0\.0\.1:\d+)/v1 \(stop", self.said)) is None:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = found[1]
        # A pipe that nobody reads would stop the process at its 64 kB.
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        with self.process.stderr as lines:
            self.said += "".join(lines)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        return self.process.returncode
