"""What asks ``local:NAME`` starts llama.cpp's server by itself and stops it: a run, its judge, and a gateway."""

import json

import pytest

from bestfor.endpoint import local
from bestfor.gateway.server import served_locally
from bestfor.lm.location import locate
from bestfor.local_models import models_here
from bestfor.pool import CandidatePool
from bestfor.runs.config import parse_config
from bestfor.runs.run import run
from support import needs
from support.gguf_of import convert

needs("xllamacpp", "gguf", "torch")
pytestmark = pytest.mark.slow

NUMBER = {"grammar": "root ::= [1-5]"}
"""llama.cpp lets a model say nothing else."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "policy.gguf"
    convert(locate("embedded"), path)
    return f"local:{path}?slots=4&context=2048&threads=1"


@pytest.fixture
def started(monkeypatch):
    """All servers that are started while a test runs."""
    seen = []

    class Seen(local.LlamaServer):
        def __init__(self, settings):
            super().__init__(settings)
            seen.append(self)

    monkeypatch.setattr(local, "LlamaServer", Seen)
    yield seen
    for server in seen:
        assert not server.alive, "nobody stopped it"


def config(address, metrics=("rougeL", "judge"), **policy):
    judge = {"model": "m", "endpoint": {"base_url": address, "extra_body": NUMBER}, "max_tokens": 2}
    return parse_config(
        {
            "data": {"source": "world", "users": 3, "queries": 1},
            "split": {"min_fit": 0, "min_test": 2},
            "policy": {
                "kind": "openai",
                "model": "m",
                "n": 3,
                "fit_n": 2,
                "fit_items": 2,
                "chunk": 2,
                "items": 1,
                "max_new_tokens": 8,
                "endpoint": {"base_url": address},
                **policy,
            },
            "utility": {
                "metrics": [*metrics],
                "primary": "rougeL",
                **({"judge": judge} if "judge" in metrics else {}),
            },
            "reward": [{"kind": "length"}, {"kind": "logprob"}],
            "diagnosis": {"n": [1, 2, 3]},
        },
        "run.toml",
    )


def test_a_run_starts_one_server_for_policy_and_judge_and_stops_it(address, started, tmp_path):
    told = []
    diagnosis = run(config(address), tmp_path / "run", tell=told.append).diagnosis
    assert set(diagnosis.models) == {"length", "logprob"}
    assert len(started) == 1
    assert not local._servers
    written = CandidatePool(tmp_path / "run" / "pool").scan().to_pylist()
    assert len(written) == 3 * 3 + 3 * 2 * 2
    assert all(row["logprob"] < 0 for row in written)
    assert json.loads((tmp_path / "run" / "usage.json").read_text())
    # What is there is not asked for again: no server starts.
    again = run(config(address), tmp_path / "run", tell=told.append).diagnosis
    assert again.to_dict() == diagnosis.to_dict()
    assert len(started) == 1


def test_a_judge_alone_starts_its_server(address, started, tmp_path):
    judged = config(address, kind="transformers", model="embedded", endpoint=None)
    diagnosis = run(judged, tmp_path / "run", tell=lambda line: None).diagnosis
    assert diagnosis.models
    assert len(started) == 1
    assert not local._servers


def test_a_run_that_fails_stops_its_server(address, started, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(config(address), tmp_path / "run", tell=lambda line: 1 // 0 if "candidates" in line else None)
    assert len(started) == 1
    assert not local._servers


def test_a_gateways_upstream_is_started_with_it_and_stopped_after_it(address, started, tmp_path):
    httpx2 = pytest.importorskip("httpx2")
    pytest.importorskip("fastapi")
    from bestfor.gateway import load_gateway_config, make_app
    from bestfor.gateway.tenants import Services
    from bestfor.serving.base import ServedModel
    from bestfor.serving.labels import LabelScale
    from support.gateways import listen
    from support.taught import taught

    given = {
        "source": "nowhere",
        "journal": str(tmp_path / "feedback.db"),
        "keys": str(tmp_path / "keys.json"),
        "upstream": {"base_url": address},
    }
    with served_locally(load_gateway_config(None, given)) as ready:
        assert ready.upstream.base_url == started[0].url
        services = Services(ready, ServedModel(taught("ann", "ben"), "digest"), scale=LabelScale(0.0, 1.0))
        url, stop = listen(make_app(ready, services, None))
        try:
            with httpx2.Client(base_url=url, timeout=120.0, trust_env=False) as http:
                asked = {"model": "m", "messages": [{"role": "user", "content": "The fair was wet."}], "max_tokens": 8}
                answer = http.post(
                    "/v1/chat/completions", json={**asked, "bestfor": {"n": 3}}, headers={"X-Bestfor-User": "ann"}
                ).json()
        finally:
            stop()
        assert answer["bestfor"]["received"] == 3
        assert started[0].alive
    assert not local._servers


def test_a_real_model_writes_a_run(started, tmp_path):
    if "smollm2" not in dict(models_here()):
        pytest.skip("smollm2 is not on this machine: bestfor models fetch smollm2")
    address = "local:smollm2?slots=4&context=2048&threads=1"
    run(config(address, ("rougeL",), model="smollm2", fit_items=1), tmp_path / "run", tell=lambda line: None)
    rows = CandidatePool(tmp_path / "run" / "pool").scan().to_pylist()
    assert len({row["text"] for row in rows}) > len(rows) / 2, "it samples"
    assert len(started) == 1
