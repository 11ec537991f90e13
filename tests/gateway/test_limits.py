"""Limits of tenants: constant rates, one count for all processes of a journal, and what holds without the journal."""

import asyncio
import contextlib
import random

import pytest

from bestfor.gateway.config import LimitsTable
from bestfor.gateway.errors import ApiError
from bestfor.gateway.limits import Limits
from bestfor.serving.journal import Journal, JournalError, buckets
from bestfor.serving.journal.buckets import Take
from support.gateways import writes
from support.postgres import database


@pytest.fixture
def clock(monkeypatch):
    """Stands still until it is set; in seconds."""
    now = [1000.0]
    monkeypatch.setattr(buckets.time, "time_ns", lambda: int(now[0] * 1e9))
    monkeypatch.setattr("bestfor.gateway.limits.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def limited(tmp_path, clock):
    """Makes the limits of another process of one journal."""
    opened = []

    def make(usual=None, own=None, path=tmp_path / "feedback.db"):
        opened.append(Journal(path))
        return Limits(usual or LimitsTable(), own or {}, opened[-1])

    yield make
    for one in opened:
        one.close()


def admitted(limits, count, tenant="a"):
    """How many of so many requests are let through."""

    async def ask():
        through = 0
        for _ in range(count):
            with contextlib.suppress(ApiError):
                await limits.request(tenant)
                through += 1
        return through

    return asyncio.run(ask())


def settle(limits):
    """Wait until what was sent to the journal is there."""
    limits._journal.take(Take("0" * 16, 1, 10**6)).result()


def test_buckets_fill_at_a_constant_rate(limited, clock):
    limits = limited(LimitsTable(requests_per_minute=60, tokens_per_minute=600), {"free": LimitsTable()})
    assert admitted(limits, 60) == 60
    with pytest.raises(ApiError, match="more than 60 requests a minute; try again in 1 s"):
        asyncio.run(limits.request("a"))
    assert admitted(limits, 1, "b") == 1
    assert admitted(limits, 200, "free") == 200
    limits.tokens("free", 10**6)
    settle(limits)
    clock[0] += 1.0
    assert admitted(limits, 1) == 1
    limits.tokens("a", 1200)
    settle(limits)
    clock[0] += 59.0
    with pytest.raises(ApiError, match=r"more than 600 tokens a minute; try again in 2 s"):
        asyncio.run(limits.request("a"))
    clock[0] += 2.0
    assert admitted(limits, 1) == 1


@pytest.mark.parametrize("most", [1, 7, 600])
def test_processes_together_get_what_one_would(limited, clock, most):
    """Over any time t all of them get at most ``most (1 + t / 60)``, and nearly that where they ask enough."""
    several = [limited(LimitsTable(requests_per_minute=most)) for _ in range(3)]
    draw = random.Random(most)
    begun, through = clock[0], 0
    for _ in range(40):
        clock[0] += draw.random() * 2
        for limits in draw.sample(several, 2):
            through += admitted(limits, 2 + most // 20)
        assert through <= most * (1 + (clock[0] - begun) / 60) + 1e-6
    assert through >= 0.8 * most * (1 + (clock[0] - begun) / 60) - 1


def test_tokens_spent_at_one_process_shut_the_other(limited, clock):
    one, other = (limited(LimitsTable(tokens_per_minute=100)) for _ in range(2))
    assert admitted(other, 3) == 3
    one.tokens("a", 150)
    settle(one)
    assert admitted(other, 3) == 0
    clock[0] += 40.0
    assert admitted(other, 3) == 3


def test_without_the_journal_each_process_counts_for_itself(limited, clock, monkeypatch):
    limits = limited(LimitsTable(requests_per_minute=5, tokens_per_minute=100))

    def broken(*_):
        raise JournalError("journal x: gone")

    monkeypatch.setattr(limits._journal, "take", broken)
    monkeypatch.setattr(limits._journal, "bucket_wait", broken)
    assert admitted(limits, 9) == 5
    clock[0] += 60.0
    limits.tokens("a", 150)
    assert admitted(limits, 9) == 0


def test_two_gateways_of_one_journal_share_a_limit(serve):
    one, other = (serve(limits={"requests_per_minute": 5}) for _ in range(2))
    answers = [gateway.ask("ann", bestfor={"n": 1}) for _ in range(4) for gateway in (one, other)]
    assert [each.status_code for each in answers].count(200) == 5
    refused = answers[-1]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 12


def test_rerank_counts_as_a_request(serve):
    gateway = serve(limits={"requests_per_minute": 1})
    body = {"query": "q", "documents": ["a", "b"]}
    assert [gateway.http.post("/v1/rerank", json=body).status_code for _ in range(2)] == [200, 429]


@pytest.mark.slow
def test_two_gateways_of_one_postgres_share_a_limit(serve, postgres_server):
    with database(postgres_server) as journal:
        one, other = (serve(writes(usage=(1, 50)), journal=journal, limits={"requests_per_minute": 7}) for _ in "ab")
        codes = [gateway.ask("ann", bestfor={"n": 1}).status_code for _ in range(5) for gateway in (one, other)]
        assert codes.count(200) == 7
        one.stop()
        other.stop()


@pytest.mark.slow
def test_two_gateways_of_one_postgres_share_a_limit_of_tokens(serve, postgres_server):
    with database(postgres_server) as journal:
        one, other = (serve(writes(usage=(1, 50)), journal=journal, limits={"tokens_per_minute": 120}) for _ in "ab")
        codes = [gateway.ask("ann", bestfor={"n": 1}).status_code for gateway in (one, other, one, other)]
        assert codes == [200, 200, 200, 429]
        one.stop()
        other.stop()
