"""Shared fixtures: real data beside the project, a real browser, and what happens when either is absent."""

import os

# Test processes run side by side: one thread each, and none that waits by spinning. Said before anything loads torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from bestfor.errors import BestforError
from bestfor.metrics.meteor import Meteor
from support.servers import Scripted

# A slow machine is no failure; on CI the same examples are tried every time.
hypothesis.settings.register_profile("bestfor", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("bestfor")

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def absent(what: str, reason: str) -> NoReturn:
    """Skip with the reason, or fail where BESTFOR_REQUIRE names what is absent."""
    if what in os.environ.get("BESTFOR_REQUIRE", "").split(","):
        pytest.fail(f"{reason} (BESTFOR_REQUIRE names '{what}')", pytrace=False)
    pytest.skip(reason)


def data_folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        absent("data", f"no {folder}: real data sets are not part of the project")
    return folder


@pytest.fixture
def polis_dir() -> Path:
    return data_folder("polis")


@pytest.fixture
def headlines_file() -> Path:
    return data_folder("headlines") / "ranked_headlines.csv"


@pytest.fixture
def titles_dir() -> Path:
    return data_folder("acl_titles")


@pytest.fixture
def real_meteor() -> Meteor:
    """METEOR with the WordNet of this machine, for texts that are words and blanks."""
    try:
        return Meteor(split=str.split)
    except BestforError as error:
        absent("wordnet", str(error))


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        absent("browser", "no chromium on the PATH")
    return str(path)


@pytest.fixture
def browser(chromium):
    """A headless Chromium that reaches nothing by itself."""
    api = pytest.importorskip("playwright.sync_api")
    asks_nobody = ("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", *asks_nobody]
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Runs scripts in children of a process that has loaded torch and transformers already."""
    pytest.importorskip("torch")
    from support.forking import Forks

    started = Forks(tmp_path_factory.mktemp("forks"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def postgres_server():
    """The address of a PostgreSQL on loopback."""
    from support.postgres import postgres

    with postgres() as address:
        if address is None:
            absent("postgres", "no PostgreSQL: set BESTFOR_TEST_POSTGRES to an address, or install Debian's postgresql")
        yield address


@pytest.fixture(scope="session")
def s3():
    """A Python with s3fs, and the variables by which it finds a server on loopback and its bucket."""
    from support.s3 import CannotInstallError, environment, server

    try:
        python = environment()
    except CannotInstallError as error:
        absent("s3", f"packages of S3 cannot be installed: {error}")
    with server(python) as given:
        yield python, given


@pytest.fixture
def ray():
    """Ray, which keeps its files in a folder of its own until the test ends."""
    try:
        import ray
    except ImportError:
        absent("ray", "Ray is not installed: pip install 'bestfor[ray]'")
    # Short: paths of sockets lie in it.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as changed,
    ):
        changed.setenv("RAY_TMPDIR", folder)
        changed.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "30")
        yield ray
        ray.shutdown()


@pytest.fixture
def scripted():
    """Starts servers on loopback that answer as they are told."""
    started = []

    def start(answer):
        started.append(Scripted(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a random Qwen3 of 30,000 weights."""
    pytest.importorskip("torch")
    from support import tiny

    return tiny.save(tmp_path_factory.mktemp("checkpoint"))
