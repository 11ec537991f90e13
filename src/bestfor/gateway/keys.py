"""Keep API keys as hashes in a file, with the secret that signs links; serving processes see changes at once.

A key is ``bf-ID-SECRET``; the file holds its SHA-256 alone. A key has 256 bits of its own: no slow hash is needed.
"""

from __future__ import annotations

import base64
import fcntl
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bestfor.errors import InputError
from bestfor.files import hash_bytes, writing
from bestfor.serving.journal import check_id

Role = Literal["client", "admin"]
"""``client`` asks and gives feedback; ``admin`` also reads and removes users, and sees metrics and docs."""

VERSION = 1


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept.

    Attributes:
        id: names it; part of the key itself.
        tenant: whose users it reaches.
        role: what it may do.
        hash: SHA-256 of the whole key.
        created: seconds since 1970.
    """

    id: str
    tenant: str
    role: Role
    hash: str
    created: float


@dataclass(frozen=True)
class KeyRing:
    """Keys by their ids, and the secrets that sign links: the first signs, all verify."""

    keys: dict[str, ApiKey]
    signing: tuple[bytes, ...]

    def find(self, given: str) -> ApiKey | None:
        """Find the key that was given; None where it is none of these."""
        parts = given.split("-", 2)
        known = self.keys.get(parts[1]) if len(parts) == 3 and parts[0] == "bf" else None
        if known is None or not hmac.compare_digest(known.hash, _hash(given)):
            return None
        return known


class KeyFile:
    """The file of keys; what another process changes is seen at the next look.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        # Without a file links hold as long as this process.
        self._ring = KeyRing({}, (secrets.token_bytes(32),))
        self._own = self._ring

    def ring(self) -> KeyRing:
        """Give the keys as they are now.

        Raises:
            InputError: a file that holds no keys.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._ring, self._seen = self._own, None
            return self._own
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if mark != self._seen:
            with self._lock:
                self._ring, self._seen = _parse(self.path), mark
        return self._ring

    @property
    def seen(self) -> KeyRing:
        """The keys as they were at the last look."""
        return self._ring

    def add(self, tenant: str, role: Role) -> tuple[ApiKey, str]:
        """Add a key; the second value is the key itself, which is kept nowhere."""
        check_id("tenant", tenant)
        id = secrets.token_hex(4)
        plain = f"bf-{id}-{secrets.token_urlsafe(32)}"
        key = ApiKey(id, tenant, role, _hash(plain), time.time())
        with self._alone() as ring:
            self._write(replace(ring, keys={**ring.keys, id: key}))
        return key, plain

    def revoke(self, id: str) -> ApiKey:
        """Remove a key for good.

        Raises:
            InputError: no such key.
        """
        with self._alone() as ring:
            if id not in ring.keys:
                raise InputError("key", f"'{id}'", f"the id of one of {len(ring.keys)} keys (bestfor keys list)")
            self._write(replace(ring, keys={name: key for name, key in ring.keys.items() if name != id}))
        return ring.keys[id]

    def rotate(self, *, keep: bool = False) -> None:
        """Make a new secret for signed links; older links end, or hold until they expire where ``keep``."""
        with self._alone() as ring:
            self._write(replace(ring, signing=(secrets.token_bytes(32), *(ring.signing[:1] if keep else ()))))

    @contextmanager
    def _alone(self) -> Iterator[KeyRing]:
        """Read the keys to change them, while no other process does."""
        if not self.path.parent.is_dir():
            raise InputError(str(self.path), "no such folder", "a file in a folder that is there")
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield _parse(self.path) if self.path.exists() else self._own
        finally:
            os.close(folder)

    def _write(self, ring: KeyRing) -> None:
        values: dict[str, Any] = {
            "version": VERSION,
            "keys": [asdict(key) for key in sorted(ring.keys.values(), key=lambda one: one.created)],
            "signing": [base64.b64encode(one).decode() for one in ring.signing],
        }
        with writing(self.path) as partial:
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o600)
                json.dump(values, file, indent=1)


def _parse(path: Path) -> KeyRing:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["version"] != VERSION:
            raise InputError(str(path), f"keys of version {values['version']}", f"version {VERSION}")
        keys = {one["id"]: ApiKey(**one) for one in values["keys"]}
        return KeyRing(keys, tuple(base64.b64decode(one) for one in values["signing"]))
    except (ValueError, KeyError, TypeError):
        # What the file holds is not repeated: it is about secrets.
        raise InputError(str(path), "a file that holds no keys", "one that 'bestfor keys add' made") from None


def _hash(plain: str) -> str:
    return hash_bytes(plain.encode(errors="replace"))
