"""Several servers of one model: users stay together, sick servers are left out, and the pool's keys stay."""

import dataclasses
import threading
from collections import Counter

import pytest

from bestfor.endpoint import Budget, EndpointConfig, EndpointError, EndpointGroup, RefusedError, connect
from bestfor.endpoint.client import Endpoint
from bestfor.endpoint.group import Server, choose
from bestfor.endpoint.tables import EndpointTable
from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from support.servers import DROP, Reply, chat

PATH = "/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def config(*servers, **options):
    first, *rest = [one.url for one in servers]
    return EndpointConfig(first, also=tuple(rest), **{"backoff": 0.001, "timeout": 10.0, **options})


def answers(request):
    return chat(*["yes"] * request.body.get("n", 1))


def ask(group, *nears):
    async def each():
        return [await group.post(PATH, BODY, most=5, near=near) for near in nears]

    return group.run(each)


def servers(count, busy=()):
    made = [Server(Endpoint(EndpointConfig(f"http://127.0.0.1:{port}/v1"))) for port in range(9001, 9001 + count)]
    for one, held in zip(made, busy, strict=False):
        one.busy = held
    return made


def test_users_are_spread_and_stay_where_they_are():
    group = servers(4)
    before = {user: choose(group, f"user {user}", 0.0) for user in range(200)}
    counts = Counter(one.shown for one in before.values())
    assert len(counts) == 4
    assert min(counts.values()) > 25
    fewer = group[:3]
    moved = [user for user, one in before.items() if choose(fewer, f"user {user}", 0.0) is not one]
    assert set(moved) == {user for user, one in before.items() if one is group[3]}


def test_no_server_gets_much_more_than_its_share():
    group = servers(3)
    for _ in range(90):
        choose(group, "one user", 0.0).busy += 1
    held = sorted(one.busy for one in group)
    assert sum(held) == 90
    assert held[-1] <= 1.25 * 91 / 3 + 1
    assert choose(servers(3, busy=(4, 1, 2)), "", 0.0).busy == 1


def test_one_that_is_left_out_comes_back():
    group = servers(2)
    first = choose(group, "ann", 0.0)
    first.until = 5.0
    assert choose(group, "ann", 4.9) is not first
    assert choose(group, "ann", 5.0) is first
    other = next(one for one in group if one is not first)
    other.until = 9.0
    assert choose(group, "ann", 1.0) is first, "where all are sick, the first that comes back"


def test_a_sick_server_costs_no_request_and_is_told(scripted):
    well, sick = scripted(answers), scripted(lambda request: DROP)
    with connect(config(well, sick, retries=3)) as group:
        assert isinstance(group, EndpointGroup)
        users = [f"user {i}" for i in range(12)]
        assert all(one["choices"] for one in ask(group, *users))
        assert len(well.requests) == 12
        assert 0 < len(sick.requests) <= 12
        assert group.usage.requests == len(well.requests) + len(sick.requests)
        (note,) = group.notes
        assert sick.url in note


def test_a_server_that_lacks_the_model_is_left_out(scripted):
    well = scripted(answers)
    without = scripted(lambda request: Reply(404, {"error": {"message": "no such model"}}))
    with connect(config(well, without, retries=1)) as group:
        assert len(ask(group, *[f"user {i}" for i in range(8)])) == 8
    assert len(without.requests) <= 1


def test_a_refused_request_is_not_asked_elsewhere(scripted):
    refuses = [scripted(lambda request: Reply(400, {"error": {"message": "too long"}})) for _ in range(2)]
    with connect(config(*refuses)) as group, pytest.raises(RefusedError, match="too long"):
        ask(group, "ann")
    assert sum(len(one.requests) for one in refuses) == 1


def test_where_no_server_answers_it_is_said_of_all(scripted):
    sick = [scripted(lambda request: DROP) for _ in range(2)]
    with connect(config(*sick, retries=4)) as group:
        with pytest.raises(EndpointError, match="5 attempts, 2 of 2 servers do not answer") as caught:
            ask(group, "ann")
        assert caught.value.hopeless
    assert {len(one.requests) for one in sick} <= {2, 3}


def test_a_server_that_asks_to_wait_is_passed_over(scripted):
    busy = scripted(lambda request: Reply(429, {"error": {"message": "slow"}}, {"retry-after": "600"}))
    well = scripted(answers)
    with connect(config(busy, well, retries=2)) as group:
        assert len(ask(group, *[f"user {i}" for i in range(10)])) == 10
    assert len(busy.requests) <= 1


def test_one_budget_holds_for_all(scripted):
    group = [scripted(answers) for _ in range(2)]
    told = pytest.raises(EndpointError, match="budget of 5 requests is spent")
    with connect(config(*group, budget=Budget(max_requests=5))) as connection, told:
        ask(connection, *[f"user {i}" for i in range(9)])
    assert sum(len(one.requests) for one in group) == 5


def test_a_closed_group_opens_again_and_ends_its_threads(scripted):
    group = connect(config(scripted(answers), scripted(answers)))
    before = threading.active_count()
    for _ in range(2):
        assert len(ask(group, "a", "b", "c")) == 3
        group.close()
    assert threading.active_count() <= before + 2  # the servers' own threads of open connections


def test_candidates_and_keys_do_not_depend_on_the_number_of_servers(scripted):
    texts = {}

    def writes(request):
        seed = request.body["seed"]
        return chat(*(texts.setdefault((seed, i), f"text {seed} {i}") for i in range(request.body.get("n", 1))))

    one, two = scripted(writes), scripted(writes)
    prompts = [Prompt(f"q{i}", ({"role": "user", "content": f"ask {i}"},), f"user {i % 3}") for i in range(9)]
    alone = OpenAIPolicy("m", server=config(one))
    both = OpenAIPolicy("m", server=config(one, two))
    assert alone.signature == both.signature
    found = [policy.sample(prompts, 3, seed=1) for policy in (alone, both)]
    assert found[0] == found[1]
    for policy in (alone, both):
        policy.close()
    assert two.requests


def test_addresses_are_checked_and_kept_without_secrets():
    table = EndpointTable(base_url="http://a/v1", also=("http://ann:hushed@b/v1",))
    assert table.config("x").also == ("http://ann:hushed@b/v1",)
    assert "hushed" not in str(table.model_dump()) + repr(table)
    assert "also" not in EndpointTable().model_dump(exclude_none=True)
    for twice in ("http://a/v1", "http://a/v1/", "HTTP://A:80/v1"):
        with pytest.raises(InputError, match=r"also: found '.*' twice"):
            EndpointConfig("http://a/v1", also=("http://b/v1", twice))
    with pytest.raises(InputError, match="also: found 'nonsense'; expected addresses"):
        EndpointConfig("http://a/v1", also=("nonsense",))
    with pytest.raises(InputError, match="servers that run already"):
        EndpointConfig("http://a/v1", also=("local:smollm2",))
    assert "hushed" not in repr(dataclasses.replace(table.config("x")))
