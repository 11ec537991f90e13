"""Who may do what: keys, tenants that never meet, the loopback without keys, limits, and secrets that stay secret."""

import json
import logging
import os
import stat
import threading

import pytest

from bestfor.errors import InputError
from bestfor.gateway import load_gateway_config, make_app
from bestfor.gateway.keys import KeyFile
from support.gateways import writes
from support.servers import DROP, error

SECRET = "sk-upstream-secret-0123456789"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "keys.json")


def test_two_tenants_with_one_user_id_never_meet(serve, keys):
    one, other = (keys.add(tenant, "client")[1] for tenant in ("first", "second"))
    admin = keys.add("second", "admin")[1]
    gateway = serve(writes("red fish", "blue bird"))
    first = gateway.ask(headers=bearer(one), user="eve").json()["bestfor"]
    body = {"answer_id": first["answer_id"], "kind": "rating", "value": 1, "text": "blue bird", "key": "k"}
    for key in (other, admin):
        refused = gateway.http.post("/v1/feedback", json=body, headers=bearer(key))
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, "answer_id")
    assert gateway.http.post("/v1/feedback", json=body, headers=bearer(one)).status_code == 201
    wish = {"n": 2}
    assert gateway.ask(headers=bearer(one), user="eve", bestfor=wish).json()["bestfor"]["rewards"] == [0, 2]
    assert gateway.ask(headers=bearer(other), user="eve", bestfor=wish).json()["bestfor"]["rewards"] == [0, 0]
    assert gateway.http.delete("/v1/feedback/k", headers=bearer(other)).status_code == 404
    known = gateway.http.get("/v1/users/eve", headers=bearer(admin)).json()
    assert (known["labels"], known["answers"]) == ({}, 1)
    assert "blue bird" not in gateway.http.get("/v1/users/eve/export", headers=bearer(admin)).text.replace(
        '"texts": ["red fish", "blue bird"]', ""
    )
    # Users of the model itself are those of the tenant without a name alone.
    assert gateway.ask(headers=bearer(one), user="ann").json()["bestfor"]["served"] == "everybody"


def test_keys_are_needed_where_there_are_some_and_admin_ones_for_people(serve, keys):
    client, admin = keys.add("", "client")[1], keys.add("", "admin")[1]
    gateway = serve()
    for headers in ({}, bearer("bf-00000000-x"), bearer(client[:-1]), {"Authorization": f"Basic {client}"}):
        refused = gateway.ask(headers=headers or {"X-Bestfor-User": "ann"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert gateway.ask(headers=bearer(client), user="ann").status_code == 200
    for path in ("/v1/users/ann", "/v1/users/ann/export", "/metrics", "/docs", "/openapi.json"):
        assert gateway.http.get(path, headers=bearer(client)).status_code == 403
        assert gateway.http.get(path).status_code == 401
        assert gateway.http.get(path, headers=bearer(admin)).status_code == 200
    assert gateway.http.get("/healthz").status_code == 200


def test_a_revoked_key_is_refused_at_once_and_a_new_one_taken(serve, keys):
    key, plain = keys.add("", "client")
    keys.add("", "client")
    gateway = serve()
    assert gateway.ask(headers=bearer(plain)).status_code == 200
    keys.revoke(key.id)
    assert gateway.ask(headers=bearer(plain)).status_code == 401
    assert gateway.ask(headers=bearer(keys.add("", "client")[1])).status_code == 200


def test_the_file_holds_hashes_and_only_its_owner_reads_it(keys):
    _, plain = keys.add("acme", "client")
    assert plain not in keys.path.read_text()
    assert plain.split("-", 2)[2] not in keys.path.read_text()
    assert stat.S_IMODE(os.stat(keys.path).st_mode) == 0o600
    assert keys.ring().find(plain).tenant == "acme"
    with pytest.raises(InputError, match="'nope'; expected the id"):
        keys.revoke("nope")
    keys.path.write_text(json.dumps({"version": 1, "keys": [{"secret": "x"}]}))
    with pytest.raises(InputError, match="holds no keys") as raised:
        keys.ring()
    assert "secret" not in str(raised.value)


def test_keys_that_are_added_at_once_are_all_kept(keys):
    threads = [threading.Thread(target=KeyFile(keys.path).add, args=(f"t{place}", "client")) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.tenant for key in keys.ring().keys.values()} == {f"t{place}" for place in range(12)}


def test_other_addresses_than_loopback_need_keys(tmp_path, keys):
    config = load_gateway_config(None, {"source": "x", "host": "0.0.0.0", "keys": str(keys.path)})
    with pytest.raises(InputError, match=r"without API keys; expected 127\.0\.0\.1, or API keys first"):
        make_app(config)


def test_without_keys_only_this_machines_names_are_served(serve):
    gateway = serve()
    for host in ("127.0.0.1:1", "localhost", "[::1]:80", "LOCALHOST:8000".lower()):
        assert gateway.ask(headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil:80"):
        refused = gateway.ask(headers={"Host": host})
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, "Host")


def test_limits_of_a_tenant(serve, keys):
    one, other = (keys.add(tenant, "client")[1] for tenant in ("small", "large"))
    gateway = serve(writes(usage=(1, 100)), tenants={"small": {"requests_per_minute": 2, "tokens_per_minute": 10_000}})
    assert [gateway.ask(headers=bearer(one)).status_code for _ in range(3)] == [200, 200, 429]
    refused = gateway.ask(headers=bearer(one))
    assert 1 <= int(refused.headers["Retry-After"]) <= 31
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert [gateway.ask(headers=bearer(other)).status_code for _ in range(4)] == [200] * 4


def test_tokens_of_a_tenant_are_limited(serve):
    gateway = serve(writes(usage=(1, 100)), limits={"tokens_per_minute": 150})
    assert [gateway.ask().status_code for _ in range(3)] == [200, 200, 429]


CLAIMS = [
    {"base_url": "http://127.0.0.1:9/v1"},
    {"bestfor": {"upstream": "http://127.0.0.1:9/v1"}},
    {"bestfor": {"base_url": "http://127.0.0.1:9/v1"}},
]
HEADERS = [
    {"X-Bestfor-Upstream": "http://127.0.0.1:9/v1"},
    {"X-ITS-Base-Url": "http://127.0.0.1:9/v1"},
    {"X-Forwarded-Host": "127.0.0.1:9"},
]


def test_a_client_cannot_choose_the_upstream(serve):
    gateway = serve()
    for body in CLAIMS:
        assert gateway.ask(**body).status_code == (400 if "bestfor" in body else 200)
    for headers in HEADERS:
        assert gateway.ask(headers=headers).status_code == 200
    sent = gateway.upstream.requests
    assert len(sent) == 4
    assert {request.headers["host"] for request in sent} == {gateway.upstream.url.split("/")[2]}


def test_no_header_of_a_client_reaches_the_upstream(serve, keys):
    key = keys.add("", "client")[1]
    gateway = serve()
    gateway.ask(headers={**bearer(key), "Cookie": "a=b", "X-Own": "c", "OpenAI-Organization": "d"})
    (request,) = gateway.upstream.requests
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert not {"cookie", "x-own", "openai-organization", "x-bestfor-user"} & set(request.headers)


def test_secrets_stand_in_no_answer_log_or_metric(serve, keys, caplog, capfd):
    client, admin = keys.add("acme-tenant", "client")[1], keys.add("acme-tenant", "admin")[1]
    caplog.set_level(logging.DEBUG)
    replies = [
        error(401, f"Incorrect API key provided: {SECRET}", code=SECRET),
        error(500, f"at Authorization: Bearer {SECRET}"),
        DROP,
        {"error": {"message": SECRET}},
        {"choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "error", "error": SECRET}]},
    ]
    gateway = serve(lambda request: replies[request.number % 5], upstream={"failures": 1000, "n": "yes"})
    seen = ""
    for _ in replies:
        answered = gateway.ask(headers=bearer(client), user="user-4711")
        assert answered.status_code >= 400
        seen += answered.text + str(answered.headers)
    for path in ("/metrics", "/openapi.json", "/readyz", "/v1/models", "/docs"):
        seen += gateway.http.get(path, headers=bearer(admin)).text
    own = [record.getMessage() for record in caplog.records if record.name.startswith("bestfor")]
    assert any("POST /v1/chat/completions 401" in line for line in own)
    logged = "\n".join(own) + "".join(capfd.readouterr())
    for secret in (SECRET, client, admin, "user-4711", "acme-tenant", "an animal"):
        assert secret not in logged
        assert secret not in seen


def test_an_error_that_nobody_foresaw_is_told_by_its_place_alone(serve, caplog, monkeypatch):
    gateway = serve()

    def broken(*_, **__):
        raise RuntimeError("words of a client 9d2c")

    monkeypatch.setattr(gateway.app.state.gateway.answering, "read", broken)
    refused = gateway.ask("ann")
    assert (refused.status_code, refused.json()["error"]["type"]) == (500, "server_error")
    assert "9d2c" not in refused.text + caplog.text
    assert "RuntimeError at " in caplog.text


def test_state_of_the_gateway(serve):
    gateway = serve(writes())
    assert gateway.http.get("/readyz").json() == {"status": "ok", "journal": "ok", "upstream": "ok"}
    gateway.ask("ann")
    gateway.learn(gateway.ask("ann").json()["bestfor"]["answer_id"], value=True)
    metrics = gateway.http.get("/metrics").text
    assert 'bestfor_requests_total{route="/v1/chat/completions",status="200"} 2.0' in metrics
    assert 'bestfor_candidates_total{outcome="came"} 16.0' in metrics
    assert 'bestfor_feedback_total{kind="thumb",status="new"} 1.0' in metrics
    assert 'bestfor_served_total{served="own"} 2.0' in metrics
    assert 'bestfor_latency_seconds_count{part="upstream"} 2.0' in metrics
    gateway.upstream.close()
    lost = gateway.http.get("/readyz")
    assert (lost.status_code, lost.json()["status"]) == (503, "not ready")


def test_configuration_is_read_and_refused_in_one_line(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text('source = "x"\n[upstream]\nbase_url = "http://u:pw@h/v1"\n[defaults]\nn = 4\n')
    config = load_gateway_config(path, {"defaults": {"n": None, "rule": "second"}, "port": 9})
    assert (config.defaults.n, config.defaults.rule, config.port) == (4, "second", 9)
    assert "pw" not in repr(config)
    for text, said in (
        ('sorce = "x"', "'sorce'; expected 'source'"),
        ('source = "x"\n[defaults]\nn = 0', "defaults.n"),
        ('source = "x"\n[upstream]\nbase_url = 5', "upstream.base_url"),
        ("source = ", "no TOML"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            load_gateway_config(path, {})
    with pytest.raises(InputError, match="no file"):
        load_gateway_config(tmp_path / "none.toml", {})
