"""Start llama.cpp's server for a model on this machine, share it among those who ask, and stop it after the last.

``local:NAME`` in the place of a server's address means a server of our own, on loopback and a free port, in a process
that ends with this one however that ends: it ends where its standard input does. ``local:NAME?slots=16&context=8192``
says how it runs.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, urlsplit

from bestfor.endpoint.address import LOCAL, Address, is_loopback
from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.files import hash_file
from bestfor.local_models import gguf_file

SLOTS, CONTEXT = 32, 16384
_HEALTH_SECONDS = 60.0
_PAUSE = 5.0
"""Seconds between attempts to start a server again that cannot be started."""
_LINES = 3
_ERROR = re.compile(r"^\S+ E (.*)")
"""A line of llama.cpp's log that tells of an error."""


@dataclass(frozen=True)
class LlamaSettings:
    """Settings of a server.

    Attributes:
        file: the model in GGUF.
        slots: candidates that are written at once; more in one request are refused and asked for in parts.
        context: tokens of all that is under way together; a prompt counts once, however many candidates follow it.
        threads: processor threads; 0 takes OMP_NUM_THREADS, or all cores that this process may use.
        port: to listen on; 0 takes a free one.
        adapters: files of low-rank adapters in GGUF, none of which is applied unless a request asks for it.
    """

    file: str
    slots: int = SLOTS
    context: int = CONTEXT
    threads: int = 0
    port: int = 0
    adapters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("context", 64), ("threads", 0), ("port", 0)):
            if getattr(self, name) < least:
                raise InputError(f"local server, {name}", str(getattr(self, name)), f"{least} or more")


def local_settings(base_url: str) -> LlamaSettings:
    """Read ``local:NAME?slots=...&context=...&threads=...``.

    Raises:
        InputError: no such model here, or a setting that is none.
    """
    name, _, query = base_url.removeprefix(LOCAL).partition("?")
    known = ("slots", "context", "threads")
    found: dict[str, int] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            raise InputError(f"base_url '{base_url}'", f"'{key}'", nearest(key, known))
        if not value.isdecimal():
            raise InputError(f"base_url '{base_url}', {key}", f"'{value}'", "a whole number")
        found[key] = int(value)
    file = str(gguf_file(name).resolve())
    return LlamaSettings(file, found.get("slots", SLOTS), found.get("context", CONTEXT), found.get("threads", 0))


def check_local(base_url: str) -> None:
    """Check that a local model and what serves it are here; other addresses are not asked.

    Raises:
        InputError: no such model here, or a setting that is none.
        MissingExtraError: xllamacpp is not installed.
    """
    if base_url.startswith(LOCAL):
        local_settings(base_url)
        _require_server()


def identity_of(base_url: str) -> str:
    """Name what a server's address stands for, in signatures: a local model by its file's hash, wherever it lies."""
    if not base_url.startswith(LOCAL):
        return Address.parse(base_url).shown
    file = Path(local_settings(base_url).file)
    status = file.stat()
    return f"{LOCAL}sha256:{_digest(str(file), status.st_mtime_ns, status.st_size)}"


class LlamaServer:
    """Server of llama.cpp in a process of its own, which ends with this object, this process, or :meth:`close`.

    Args:
        settings: how it runs.

    Attributes:
        url: its address up to ``/v1``.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        InputError: it did not start; holds its own last words.
    """

    def __init__(self, settings: LlamaSettings) -> None:
        _require_server()
        self.settings = settings
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        wanted = asdict(replace(settings, threads=settings.threads or _threads()))
        script = str(Path(__file__).with_name("_llama_cpp.py"))
        # -P: modules of this folder are not to be taken for others of their names.
        command = [sys.executable, "-P", script, json.dumps(wanted)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            self.url = self._started() + "/v1"
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """True while its process runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """End the process and wait for it."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def _started(self) -> str:
        """Wait until it has said its address and answers."""
        said = self.process.stdout.readline().strip() if self.process.stdout is not None else ""
        until = time.monotonic() + _HEALTH_SECONDS
        while said and self.alive and time.monotonic() < until:
            if _healthy(said):
                return said
            time.sleep(0.05)
        # Its words are kept.
        self.process.kill()
        self.process.wait()
        words = self._last_words()
        if self.settings.port and ("bind" in words or not _free(self.settings.port)):
            raise InputError(f"port {self.settings.port}", f"it taken ({words})", "a free port (0 takes one)")
        expected = "a model that llama.cpp serves (more memory, or less context, where that is what it lacks)"
        raise InputError(self.settings.file, f"no server ({words})", expected)

    def _last_words(self) -> str:
        """Quote the first error that llama.cpp tells of, the others follow from it; else its last lines."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        told = next((found[1] for line in lines if (found := _ERROR.match(line))), None)
        if told is not None:
            return " ".join(told.split())[:400]
        code = self.process.returncode
        return "; ".join(lines[-_LINES:])[:400] if lines else f"it ended with code {code} and said nothing"


_lock = threading.RLock()
_servers: dict[LlamaSettings, tuple[LlamaServer, int]] = {}
"""Servers that run, and how many use each."""
_keeping = 0
_owner = os.getpid()


class Lease:
    """Use of a server that others may share; ends with :meth:`release`.

    Args:
        settings: of the server; one of the same settings that runs already is taken.
    """

    def __init__(self, settings: LlamaSettings) -> None:
        self._settings, self._held = settings, True
        with _lock:
            _own_process()
            server, uses = _servers.get(settings, (None, 0))
            if server is None or not server.alive:
                if server is not None:
                    server.close()
                server = LlamaServer(settings)
            _servers[settings] = (server, uses + 1)
            self.server = server

    def release(self) -> None:
        """Give the server back; the last one stops it, unless :func:`keeping_servers` keeps it."""
        with _lock:
            if not self._held or _owner != os.getpid():
                return
            self._held = False
            server, uses = _servers.get(self._settings, (self.server, 1))
            _servers[self._settings] = (server, max(uses - 1, 0))
            _stop_unused()


@contextlib.contextmanager
def keeping_servers() -> Iterator[None]:
    """Keep servers while the block runs though nobody uses them for now, so that all stages of a run share one."""
    global _keeping
    with _lock:
        _keeping += 1
    try:
        yield
    finally:
        with _lock:
            _keeping -= 1
            _stop_unused()


@contextlib.contextmanager
def lasting_server(settings: LlamaSettings) -> Iterator[str]:
    """Run a server of one's own while the block runs; one that dies is started again at the same address.

    Yields:
        Its address up to ``/v1``.

    Raises:
        InputError: it did not start.
    """
    servers = [LlamaServer(settings)]
    fixed = replace(settings, port=urlsplit(servers[0].url).port or 0)
    ended = threading.Event()

    def watch() -> None:
        while True:
            servers[0].process.wait()
            if ended.is_set():
                return
            servers[0].close()
            try:
                servers[0] = LlamaServer(fixed)
            except InputError:
                ended.wait(_PAUSE)

    thread = threading.Thread(target=watch, name="bestfor-local-server", daemon=True)
    thread.start()
    try:
        yield servers[0].url
    finally:
        ended.set()
        while thread.is_alive():
            servers[0].close()
            thread.join(timeout=0.1)


def _stop_unused() -> None:
    for settings, (server, uses) in list(_servers.items()):
        if uses == 0 and _keeping == 0:
            del _servers[settings]
            server.close()


def _own_process() -> None:
    """Forget the servers of a process that this one was forked from: they are not its to stop."""
    global _owner, _keeping
    if _owner != os.getpid():
        _servers.clear()
        _owner, _keeping = os.getpid(), 0


@atexit.register
def _stop_all() -> None:
    if _owner == os.getpid():
        for server, _ in _servers.values():
            server.close()


def _free(port: int) -> bool:
    """Check whether a server could listen at a port of this machine: llama.cpp does not always say that it is taken."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _healthy(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def loaded_adapters(server: str, headers: Mapping[str, str], shown: str) -> dict[str, int]:
    """List the adapters that llama.cpp's server has loaded: the number of each, by its file's name.

    Args:
        server: its address, without ``/v1``.
        headers: with the key.
        shown: the address in errors.

    Raises:
        InputError: it does not list them.
    """
    request = urllib.request.Request(f"{server}/lora-adapters", headers=dict(headers))
    # No proxy knows this machine's own servers.
    opener = urllib.request.build_opener(*[urllib.request.ProxyHandler({})] * is_loopback(request.host.split(":")[0]))
    try:
        with opener.open(request, timeout=30) as answer:
            return {Path(one["path"]).name: int(one["id"]) for one in json.load(answer)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"no list of adapters ({type(error).__name__})"
        raise InputError(shown, found, "llama.cpp's server, started with the adapters (--lora FILE)") from error


def _require_server() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        require("xllamacpp", "local")


def _threads() -> int:
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=64)
def _digest(path: str, _changed: int, _size: int) -> str:
    return hash_file(Path(path))
