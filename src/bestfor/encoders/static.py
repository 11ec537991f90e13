"""Encode texts by a table of token vectors: no model is run, so no torch is needed, and a thousand texts take 0.1 s."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.encoders import hub, packages
from bestfor.encoders.base import Encoder
from bestfor.encoders.batches import Batched, Vectors
from bestfor.encoders.distilling import COMPONENTS, CONFIG, FORMAT, TABLE, TOKENIZER, make_table
from bestfor.encoders.names import parsed
from bestfor.encoders.reading import TokenCounts
from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.files import hash_text, locked
from bestfor.packages import user_cache
from bestfor.progress import Progress

CHUNK = 4096
"""Texts between two steps of the progress bar."""


class StaticEncoder:
    """Mean of a text's token vectors, scaled to unit length; a text without a known token is the zero vector.

    Args:
        folder: of a table that :func:`~bestfor.encoders.distilling.make_table` made.
        name: what configurations call it.

    Raises:
        InputError: there is no such table, or its files are not those that were written.
        MissingExtraError: the extra ``static`` is not installed.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        library = require("model2vec", "static")
        stamp = _checked(folder)
        self._model: Any = library.StaticModel.from_pretrained(folder)
        self._model.tokenizer.no_padding()
        self.name, self.dim = name, int(self._model.dim)
        self.limit = int(self._model.max_length)
        self.signature = _signature(stamp)
        # Its encode sets the tokenizer's truncation each time, which no other thread may use meanwhile.
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts as vectors of shape (n, dim); equal texts get equal bits, whatever else is in the call."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        show = None if len(texts) > CHUNK else False
        with Progress(f"Encoding {len(texts)} texts", len(texts), show=show, after=2.0) as progress:
            for start in range(0, len(texts), CHUNK):
                part = [_readable(text) for text in texts[start : start + CHUNK]]
                with self._lock:
                    vectors[start : start + len(part)] = self._model.encode(part, use_multiprocessing=False)
                progress.advance(len(part))
        return vectors

    def reading(self, texts: Sequence[str]) -> TokenCounts:
        """Count tokens that the vocabulary lacks, and texts that are longer than is read."""
        unknown = self._model.unk_token_id
        with self._lock:
            self._model.tokenizer.no_truncation()
            clean = [_readable(text) for text in texts]
            found = [one.ids for one in self._model.tokenizer.encode_batch_fast(clean, add_special_tokens=False)]
        return TokenCounts(
            tokens=sum(map(len, found)),
            unknown=sum(ids.count(unknown) for ids in found) if unknown is not None else 0,
            texts=len(texts),
            cut=sum(len(ids) > self.limit for ids in found),
            limit=self.limit,
        )


def _readable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class MadeTable:
    """A table in the user's cache.

    Attributes:
        teacher: name of the encoder that it was made from.
        signature: content hash of the table.
        folder: where it is.
    """

    teacher: str
    signature: str
    folder: Path


Load = Callable[[str], Encoder]
"""Loads an encoder by its name, without a cache around it."""


def open_static(model: str, load: Load, signature: str = "") -> StaticEncoder:
    """Open the table of an encoder; make it where there is none yet; see :func:`static_folder`."""
    return StaticEncoder(static_folder(model, load, signature), name=f"static:{model}")


def static_folder(model: str, load: Load, signature: str = "") -> Path:
    """Find the table of an encoder; make it, in about a minute, where there is none yet.

    Args:
        model: a folder with a table, or the name of an encoder, its backend before a colon. Where the encoder itself
            is not on this machine, the table that was made from one of that name serves.
        load: loads the encoder, which is asked for where a table has to be made.
        signature: content hash of the table that a model was fitted with; it comes first where it is in the cache, so
            that a model and its table can be copied to a machine that would make another one.

    Raises:
        InputError: neither a table nor the encoder is here, or there are tables of several encoders of that name.
        MissingExtraError: the extra ``static`` is not installed, or what the encoder needs where a table is made.
    """
    require("model2vec", "static")
    if _stamp(Path(model)) is not None:
        return Path(model)
    wanted = [table.folder for table in made_tables() if table.signature == signature] if signature else []
    return wanted[0] if wanted else _kept(model) or _made(model, load)


def _made(model: str, load: Load) -> Path:
    teacher = load(model)
    if not isinstance(teacher, Batched):
        raise InputError(f"encoder 'static:{model}'", "a teacher that is a table itself", "the name of a model")
    folder = _place(model, _teacher_hash(model) or teacher.signature)
    work = folder.with_name(f"{folder.name}.tokens")
    work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        if _stamp(folder) is None:
            make_table(teacher, folder, work=work)
    return folder


def made_tables() -> Iterator[MadeTable]:
    """List the tables in the user's cache, by their folders' names."""
    for folder in sorted((user_cache() / "static").glob("*")):
        stamp = _stamp(folder)
        if stamp is not None:
            yield MadeTable(str(stamp["teacher"]), _signature(stamp), folder)


def _kept(model: str) -> Path | None:
    found = _teacher_hash(model)
    if found is not None:
        folder = _place(model, found)
        return folder if _stamp(folder) is not None else None
    same = [table.folder for table in made_tables() if table.teacher == model]
    if len(same) > 1:
        told = ", ".join(folder.name for folder in same)
        raise InputError(f"encoder 'static:{model}'", f"tables of several encoders ({told})", "'static:FOLDER' of one")
    return same[0] if same else None


def _teacher_hash(model: str) -> str | None:
    """Hash the files of an encoder that is on this machine, without loading it; None where it is not."""
    folder = packages.local_folder(parsed(model)[1])
    return None if folder is None else hub.folder_hash(folder)


def _place(model: str, teacher: str) -> Path:
    key = hash_text("\n".join([model, teacher, f"format={FORMAT} components={COMPONENTS}"]))[:16]
    return user_cache() / "static" / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', model)[-48:]}-{key}"


def _stamp(folder: Path) -> dict[str, Any] | None:
    """Read what a table says of itself; None where the folder holds none."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    stamp = config.get("bestfor") if isinstance(config, dict) else None
    return stamp if isinstance(stamp, dict) and stamp.get("format") == FORMAT else None


def _signature(stamp: dict[str, Any]) -> str:
    return hash_text(f"static {FORMAT} {json.dumps(stamp.get('files'), sort_keys=True)}")


def _checked(folder: Path) -> dict[str, Any]:
    stamp = _stamp(folder)
    if stamp is None:
        raise InputError(str(folder), f"no table of format {FORMAT}", "a folder made by 'bestfor encoders make'")
    for file in (TABLE, TOKENIZER):
        path, expected = folder / file, stamp.get("files", {}).get(file)
        found = hub.file_hash(path) if path.is_file() else "no such file"
        if found != expected:
            remedy = "the bytes that were written; remove the folder, and it is made again"
            raise InputError(str(path), f"sha256 {found[:16]}", remedy)
    return stamp
