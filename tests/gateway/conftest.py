"""Gateways that really listen on loopback, with upstreams that do what a script says."""

import contextlib

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

import httpx2

from bestfor.data.candidates import Candidates
from bestfor.gateway import load_gateway_config, make_app
from bestfor.gateway.tenants import Services
from bestfor.rewards import build
from bestfor.serving.base import ServedModel
from bestfor.serving.journal import database
from bestfor.serving.labels import LabelScale
from support.gateways import Running, listen, writes
from support.servers import Scripted
from support.taught import taught


@pytest.fixture(autouse=True)
def no_waiting(request, monkeypatch):
    """Nothing waits for the disk but in tests that are about it."""
    if "disk" not in request.node.name:
        monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Starts gateways: ``serve(upstream's answer, tables of gateway.toml ...)``."""
    monkeypatch.setenv("UPSTREAM_KEY", "sk-upstream-secret-0123456789")
    started = contextlib.ExitStack()

    def start(answer=None, *, model=None, writer=None, **given):
        upstream = None
        if writer is None:
            upstream = Scripted(answer or writes())
            started.callback(upstream.close)
            table = {"base_url": upstream.url, "key_env": "UPSTREAM_KEY", **given.pop("upstream", {})}
            given["upstream"] = table
        journal = given.setdefault("journal", str(tmp_path / "feedback.db"))
        given.setdefault("keys", str(tmp_path / "keys.json"))
        config = load_gateway_config(None, {"source": "nowhere", **given})
        served = ServedModel(model or taught("ann", "ben"), "digest")
        app = make_app(config, Services(config, served, scale=LabelScale(0.0, 1.0)), writer)
        url, stop = listen(app)
        http = httpx2.Client(base_url=url, timeout=120.0, trust_env=False)
        started.callback(stop)
        started.callback(http.close)
        return Running(url, app, http, upstream, journal, stop)

    with started:
        yield start


@pytest.fixture
def model(tmp_path):
    """The folder of a small fitted model of the texts' surface."""
    users = ["ann", "ben"]
    texts = [["a", "bb bb", "ccc ccc ccc", "dddd dddd dddd dddd"]] * 2
    fitted = build("hierarchical", components=0)
    fitted.fit(Candidates.of(users, ["", ""], texts, [[0.0, 0.3, 0.6, 1.0], [1.0, 0.6, 0.3, 0.0]]), rng=0)
    fitted.save(tmp_path / "model")
    return tmp_path / "model"
