"""Send chat requests and keep their answers, so that none is paid for twice, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, TypeVar

from bestfor.endpoint.address import Address
from bestfor.endpoint.budget import Usage
from bestfor.endpoint.choices import Spent, read_choice
from bestfor.endpoint.client import Endpoint, EndpointConfig, used_tokens
from bestfor.endpoint.failures import EndpointError, RefusedError
from bestfor.endpoint.group import connect
from bestfor.endpoint.refusals import SystemTurns, names
from bestfor.errors import BestforError
from bestfor.files import hash_json

T = TypeVar("T")
Message = dict[str, str]
SPARED = (("logprobs", "top_logprobs"), ("seed",))
_NOTHING = "nothing: "
"""How lines of the store began that hold no answer, which were kept once; they are asked for again."""
"""Parameters without which a request is made again where the server refuses them: they change no answer's meaning."""
_WORDS = 300
_WAITING = 2
"""Questions for each that the server is asked at once: those that wait for a retry keep no other from being asked."""


@dataclass(frozen=True)
class Reading:
    """Reader of answers and check of values that were kept.

    Attributes:
        read: a choice of the answer -> what it says, as JSON; None where it is nonsense.
        fits: whether a value that was kept is one that ``read`` gives; others are asked for again.
    """

    read: Callable[[Mapping[str, Any]], Any]
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Request:
    """Chat request, named by a hash of all that decides its answer.

    Attributes:
        who: named in errors, such as ``the judge of query 'q'``.
        body: the request, its ``messages`` among it; ``max_tokens`` may be left out.
        most: the longest answer, in tokens.
        identity: what decides the answer beside all this, such as the server.
    """

    who: str
    body: Mapping[str, Any]
    most: int
    identity: object = ""

    @property
    def name(self) -> str:
        """Hash of all that decides the answer."""
        return hash_json([self.identity, dict(self.body), self.most])


@dataclass(frozen=True)
class Answer:
    """Outcome of a request.

    Attributes:
        value: what the answer says, None where there is none or it is nonsense.
        refused: whether there is none, or none with a text: it will be asked for again by a later call.
        prompt: tokens of the prompt as the server counted them, 0 where it did not say.
        completion: tokens of the answer, likewise.
        said: how an answer begins that is nonsense, or why there is none, for people who want to know why.
        state: of an answer without a text, a name of :mod:`bestfor.data.states`.
    """

    value: Any = None
    refused: bool = False
    prompt: int = 0
    completion: int = 0
    said: str = ""
    state: str = ""


class Answers:
    """Store of answers by the name of their request, in a JSONL file of which every whole line counts.

    Args:
        path: the file, made where it is not there; None keeps answers in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = {} if path is None else _read(path)
        self._file: TextIO | None = None

    def get(self, name: str) -> Answer | None:
        """Find the answer to a request of this name, None where there is none."""
        return self._known.get(name)

    def keep(self, name: str, answer: Answer) -> None:
        """Add an answer."""
        self._known[name] = answer
        if self._path is None:
            return
        line: dict[str, Any] = {"answer": name, "value": answer.value, "tokens": [answer.prompt, answer.completion]}
        line |= {"said": answer.said} if answer.value is None else {}
        file = self._file or self._open(self._path)
        file.write(json.dumps(line) + "\n")
        file.flush()

    def close(self) -> None:
        """Close the file; a later answer opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: Path) -> TextIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = path.open("a", encoding="utf-8")
        weakref.finalize(self, self._file.close)
        # A writer that was killed may have left half a line, which would swallow the next one.
        self._file.write("\n" if torn else "")
        return self._file


class Chat:
    """Client of one chat server that keeps every answer.

    Args:
        server: the server and how it is treated.
        cache: a JSONL file of answers; None keeps them in memory.
    """

    def __init__(self, server: EndpointConfig, cache: Path | None = None) -> None:
        self.server = server
        self._answers = Answers(cache)
        self._earlier = Usage()
        self._pending: dict[str, asyncio.Future[Answer]] = {}
        self._dropped: set[str] = set()
        self._turns = SystemTurns()
        self._limit = "max_tokens"
        self._over = ""

    @property
    def usage(self) -> Usage:
        """Usage of this chat so far; answers that were kept cost nothing."""
        return self.__dict__["_endpoint"].usage if "_endpoint" in self.__dict__ else Usage()

    def charge(self, earlier: Usage) -> None:
        """Count what earlier calls have spent against the budget; before the first request."""
        self._earlier = earlier

    def close(self) -> None:
        """Close the connections and the file; a later request opens them again."""
        self._answers.close()
        if "_endpoint" in self.__dict__:
            self._endpoint.close()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do asynchronous work on the connection's own thread and wait for it."""
        self._over = ""
        self._room = asyncio.Semaphore(_WAITING * self.server.concurrency)
        return self._endpoint.run(work)

    async def ask(self, request: Request, reading: Reading) -> Answer:
        """Ask one question, unless it was answered before or is being asked; within :meth:`run`.

        Raises:
            BestforError: the server is out of reach or the budget spent; what was answered is kept, and nothing more is
                asked within this run.
        """
        name = request.name
        known = self._answers.get(name)
        if known is not None and (known.value is None or reading.fits(known.value)):
            return known
        if name in self._pending:
            return await asyncio.shield(self._pending[name])
        self._pending[name] = asyncio.ensure_future(self._fresh(request, reading))
        try:
            return await self._pending[name]
        finally:
            self._pending.pop(name, None)

    async def _fresh(self, request: Request, reading: Reading) -> Answer:
        async with self._room:
            if self._over:
                raise BestforError(f"{request.who}: {self._over}")
            try:
                said = await self._post({"max_tokens": request.most, **request.body}, request.most)
            except EndpointError as error:
                if error.hopeless:
                    self._over = str(error)
                    raise BestforError(f"{request.who}: {error}") from None
                return Answer(refused=True, said=str(error))
        used = used_tokens(said)
        tokens = (0, 0) if used is None else (used.prompt, used.completion)
        choice = read_choice(said["choices"][0], Spent.of(said))
        text = self._endpoint.scrub(choice.text)
        if not text.strip():
            return Answer(None, True, *tokens, self._endpoint.scrub(choice.said), choice.state)
        value = reading.read(_with_text(said["choices"][0], text, choice.chain))
        answer = Answer(value, False, *tokens, "" if value is not None else text[:_WORDS])
        self._answers.keep(request.name, answer)
        return answer

    @property
    def notes(self) -> list[str]:
        """Notes on the server for a reader of the results."""
        return self._turns.notes(Address.parse(self.server.base_url).shown)

    async def _post(self, body: Mapping[str, Any], most: int) -> dict[str, Any]:
        said = {
            self._limit if name == "max_tokens" else name: value
            for name, value in body.items()
            if name not in self._dropped
        }
        said["messages"] = self._turns.adapt(body["messages"])
        try:
            answer = await self._endpoint.post("/chat/completions", said, most=most)
            self._turns.answered(said["messages"])
            return answer
        except EndpointError as error:
            learned = isinstance(error, RefusedError) and self._learn(error, said)
            if not learned and not self._turns.learn(error, said["messages"]):
                raise
        return await self._post(body, most)

    def _learn(self, refusal: RefusedError, said: Mapping[str, Any]) -> bool:
        """Change the parameters of later requests after a refusal; False where asking again makes no sense."""
        if "max_tokens" in said and "max_completion_tokens" in f"{refusal.parameter} {refusal.reason}":
            self._limit = "max_completion_tokens"
            return True
        for group in SPARED:
            if group[0] in said and names(refusal, group[0]):
                self._dropped |= set(group)
                return True
        return False

    @cached_property
    def _endpoint(self) -> Endpoint:
        return connect(self.server, self._earlier)


def quoted(tag: str, text: str, tags: Sequence[str] = ()) -> str:
    """Quote a text as data between tags, out of which it cannot break: tags that it spells itself are bent.

    Args:
        tag: what stands around it.
        text: of any content.
        tags: the message's other tags.
    """
    spelled = "|".join(re.escape(one) for one in (tag, *tags))
    text = re.sub(rf"<(?=\s*/?\s*(?:{spelled})\b)", "&lt;", text, flags=re.IGNORECASE)
    return f"<{tag}>\n{text}\n</{tag}>"


def _with_text(choice: Mapping[str, Any], text: str, chain: bool) -> dict[str, Any]:
    """Put a text into a choice; tokens of a chain of thought that was taken off it are taken off, too."""
    message = choice.get("message")
    told: dict[str, Any] = {**choice, "message": {**(message if isinstance(message, Mapping) else {}), "content": text}}
    held = choice.get("logprobs")
    tokens = held.get("content") if isinstance(held, Mapping) else None
    if not chain or not isinstance(tokens, list):
        return told
    kept: list[Any] = []
    for token in reversed(tokens):
        kept.insert(0, token)
        written = "".join(str(one.get("token", "")) if isinstance(one, Mapping) else "" for one in kept)
        if written.strip().startswith(text):
            # A token may begin with the space that parts it from the chain.
            told["message"]["content"] = written[: len(written) - len(written.lstrip())] + text
            return {**told, "logprobs": {"content": kept}}
    return {**told, "logprobs": None}


def _read(path: Path) -> dict[str, Answer]:
    """Read answers of earlier calls; a line that is torn was never kept."""
    known: dict[str, Answer] = {}
    if not path.is_file():
        return known
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            prompt, completion = row["tokens"]
            said = str(row.get("said", ""))
            if row["value"] is None and said.startswith(_NOTHING):
                continue
            known[str(row["answer"])] = Answer(row["value"], False, int(prompt), int(completion), said)
        except (ValueError, KeyError, TypeError):
            continue
    return known
