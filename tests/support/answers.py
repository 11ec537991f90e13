"""What scripted servers answer, and what is asked of them."""

from bestfor.policies.base import Prompt
from support.servers import chat


def prompts(*names):
    return [Prompt(name, ({"role": "system", "content": "do"}, {"role": "user", "content": name})) for name in names]


def asked(request):
    return request.body["messages"][-1]["content"] if "messages" in request.body else request.body["prompt"]


def honest(request):
    """A server that honours n: texts name the query, the request's seed and the choice."""
    n, seed = request.body.get("n", 1), request.body.get("seed")
    return chat(*(f"{asked(request)} {seed} {i}" for i in range(n)), usage=(20, 5 * n))


def single(request):
    """A server that gives one choice whatever is asked."""
    return chat(f"{asked(request)} {request.body.get('seed')}", usage=(20, 5))
