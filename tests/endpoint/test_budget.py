import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.endpoint import Budget, BudgetSpentError, Endpoint, EndpointConfig, Usage
from bestfor.endpoint.budget import Account, Bound
from bestfor.errors import InputError
from support.servers import chat, error

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def ask(server, budget, times, most=5, **options):
    options = {"concurrency": 4, "backoff": 0.001, **options}
    with Endpoint(EndpointConfig(base_url=server.url, budget=budget, **options)) as endpoint:

        async def work():
            posts = (endpoint.post("/chat/completions", BODY, most=most) for _ in range(times))
            return await asyncio.gather(*posts, return_exceptions=True)

        outcomes = endpoint.run(work)
        return (
            [one for one in outcomes if isinstance(one, dict)],
            [one for one in outcomes if not isinstance(one, dict)],
            endpoint.usage,
        )


def test_requests_are_counted_with_their_retries(scripted):
    server = scripted(lambda request: error(500) if request.number % 2 == 0 else chat("x"))
    answers, errors, usage = ask(server, Budget(max_requests=5), 9, concurrency=1)
    assert len(server.requests) == usage.requests == 5
    assert len(answers) == 2
    assert usage.failed == 3
    assert {type(one) for one in errors} == {BudgetSpentError}
    assert "the budget of 5 requests is spent" in str(errors[0])


def test_tokens_and_money_stop_before_the_limit(scripted):
    server = scripted(lambda request: chat("x", usage=(60, 5)))
    for budget in (Budget(max_tokens=650), Budget(max_cost=70.0, input_price=1e5, output_price=2e5)):
        answers, errors, usage = ask(server, budget, 50)
        assert errors
        assert all(isinstance(one, BudgetSpentError) for one in errors)
        assert len(answers) in (8, 9), "one more might have overrun the limit"
        assert usage.prompt_tokens + usage.completion_tokens <= 650
    assert usage.cost == pytest.approx((usage.prompt_tokens * 1e5 + usage.completion_tokens * 2e5) / 1e6)
    assert usage.cost <= 70.0


def test_a_limit_makes_requests_wait_for_each_other_and_not_fail(scripted):
    """Bounds are above what is used: those under way together would not fit, one after another they do."""
    server = scripted(lambda request: chat("x", usage=(3, 1)))
    answers, errors, _ = ask(server, Budget(max_tokens=170), 10, most=50)
    assert len(answers) == 10
    assert not errors


def test_answers_without_a_count_are_taken_at_their_bound(scripted):
    server = scripted(lambda request: chat("x", usage=None))
    answers, _, usage = ask(server, Budget(), 3)
    assert len(answers) == usage.estimated == 3
    assert usage.completion_tokens == 15
    assert usage.prompt_tokens >= 3 * len("hello")


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(0, 1), st.booleans()), max_size=30),
    st.integers(0, 300),
    st.integers(0, 20),
    st.integers(0, 10**6),
)
def test_no_order_of_events_overruns_a_budget(requests, tokens, count, seed):
    budget = Budget(max_tokens=tokens, max_requests=count, input_price=1.0, output_price=3.0)
    shuffled = random.Random(seed)

    async def one(account, prompt, completion, share, answered):
        bound = Bound(prompt, completion)
        await account.reserve(bound)
        for _ in range(shuffled.randrange(4)):
            await asyncio.sleep(0)
        used = Bound(int(prompt * share), int(completion * share))
        await account.settle(bound, used if answered else None, answered=answered)

    async def work():
        account = Account(budget)
        outcomes = await asyncio.gather(*(one(account, *request) for request in requests), return_exceptions=True)
        return account.usage, outcomes

    usage, outcomes = asyncio.run(work())
    assert {type(one) for one in outcomes} <= {type(None), BudgetSpentError}
    assert usage.prompt_tokens + usage.completion_tokens <= tokens
    assert usage.requests <= count
    assert usage.cost == pytest.approx((usage.prompt_tokens + 3 * usage.completion_tokens) / 1e6)


def test_usages_add_up():
    one = Usage(requests=2, failed=1, prompt_tokens=10, completion_tokens=5, cost=0.5)
    two = Usage(requests=1, prompt_tokens=4, estimated=1)
    assert one + two == Usage(3, 1, 14, 5, 1, 0.5)
    assert (one + two) - two == one
    assert Usage() + Usage() == Usage()
    assert Usage.from_dict({**one.to_dict(), "other": 1}) == one
    assert str(one) == "2 requests, 10 + 5 tokens, 1 requests failed, cost 0.5000"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"max_cost": 1.0}, "input_price and output_price"),
        ({"input_price": 1.0}, "both input_price and output_price"),
        ({"max_tokens": -1}, "0 or more"),
        ({"max_cost": float("nan"), "input_price": 1.0, "output_price": 1.0}, "0 or more"),
    ],
)
def test_budgets_without_sense(values, expected):
    with pytest.raises(InputError, match=expected):
        Budget(**values)
