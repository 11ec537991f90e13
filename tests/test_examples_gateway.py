"""The files of examples/gateway agree with the code and with each other: verbs, options, ports, paths, names."""

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
import yaml
from typer.main import get_command

from bestfor.cli.app import app
from bestfor.gateway import load_gateway_config
from bestfor.gateway.routes.status import StatusRoutes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples" / "gateway"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def dockerfile():
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


@pytest.fixture(scope="module")
def config():
    return load_gateway_config(FOLDER / "gateway.toml", {})


def check_command(words):
    """Parse a command of bestfor without running it."""
    command = get_command(app)
    context = command.make_context("bestfor", list(words), resilient_parsing=True)
    name, found, rest = command.resolve_command(context, list(words))
    found.make_context(name, rest, resilient_parsing=False)
    return name


def test_the_image_copies_what_is_there_and_installs_extras_that_exist(dockerfile):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word, rest in dockerfile:
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
    (installed,) = (rest for word, rest in dockerfile if word == "RUN" and "pip install" in rest)
    names = re.search(r"/src\[([\w,]+)\]", installed)[1].split(",")
    assert set(names) <= set(extras)
    assert "serve" in names
    python = next(rest for word, rest in dockerfile if word == "FROM").split(":")[1].split("-")[0]
    assert tuple(map(int, python.split("."))) >= (3, 11)


def test_the_image_runs_a_command_that_is_understood(dockerfile):
    found = dict(dockerfile)
    (program,), words = yaml.safe_load(found["ENTRYPOINT"]), yaml.safe_load(found["CMD"])
    assert program == "bestfor"
    assert check_command(words) == "serve"


def test_ports_agree(compose, dockerfile, config):
    exposed = int(dict(dockerfile)["EXPOSE"])
    assert config.port == exposed
    (published,) = compose["services"]["gateway"]["ports"]
    assert published == f"127.0.0.1:{exposed}:{config.port}"
    assert f"http://127.0.0.1:{exposed}/healthz" in dict(dockerfile)["HEALTHCHECK"]
    assert "/healthz" in {route.path for route in StatusRoutes(None, None).router.routes}


def test_the_upstream_is_the_service_that_listens_there(compose, config):
    command = compose["services"]["upstream"]["command"]
    port = command[command.index("--port") + 1]
    assert config.upstream.base_url == f"http://upstream:{port}/v1"
    assert f":{port}/health" in compose["services"]["upstream"]["healthcheck"]["test"][-1]
    assert int(command[command.index("--parallel") + 1]) >= config.defaults.n
    model = Path(command[command.index("--model") + 1])
    assert any(str(volume).split(":")[-2] == str(model.parent) for volume in compose["services"]["upstream"]["volumes"])


def test_the_journal_is_the_database_that_is_made(compose, config):
    made = compose["services"]["journal"]["environment"]
    assert config.journal == f"postgresql://{made['POSTGRES_USER']}@journal/{made['POSTGRES_DB']}"
    assert compose["services"]["gateway"]["environment"]["PGPASSWORD"] == made["POSTGRES_PASSWORD"]
    assert set(compose["services"]["gateway"]["depends_on"]) == {"journal", "upstream"} <= set(compose["services"])


def test_what_the_gateway_writes_lies_on_a_volume(compose, dockerfile, config):
    volumes = {volume.split(":")[-1]: volume for volume in compose["services"]["gateway"]["volumes"]}
    assert "data:/data" in volumes.values()
    assert dict(dockerfile)["VOLUME"] == "/data"
    assert config.keys.startswith("/data/")
    assert config.refit.folder.startswith("/data/")
    assert any(f":{config.source}" in volume for volume in volumes.values())
    words = yaml.safe_load(dict(dockerfile)["CMD"])
    assert any(f":{words[-1]}:ro" in volume for volume in volumes.values())
    assert all(one in compose["volumes"] for one in ("data", "journal"))


def test_the_unit_starts_a_command_that_is_understood():
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str
    unit.read(FOLDER / "bestfor-gateway.service")
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "bestfor"
    assert check_command(words) == "serve"
    assert unit["Service"]["WorkingDirectory"] == f"/var/lib/{unit['Service']['StateDirectory']}"
    from bestfor.gateway.server import GRACE

    assert int(unit["Service"]["TimeoutStopSec"]) > GRACE
