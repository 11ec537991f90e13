"""A scripted model that takes advice, and reward models for it: its drafts differ in their exclamation marks."""

from bestfor.policies.feedback.prompts import REVIEWER
from support.servers import chat


def marks(asked, texts):
    """A reward model that loves exclamation marks."""
    return [[float(text.count("!")) for text in one] for one in texts]


def quiet(asked, texts):
    """One that hates them."""
    return [[-score for score in one] for one in marks(asked, texts)]


def kind_of(request):
    messages = request.body["messages"]
    if messages[0]["content"] == REVIEWER:
        return "advice" if "A review of it:" in messages[-1]["content"] else "critique"
    return "revision" if "A reviewer advises" in messages[-1]["content"] else "draft"


def shown(request, start, end="\n\n"):
    return request.body["messages"][-1]["content"].split(f"{start}\n")[1].split(end)[0]


def obedient(request):
    """A model that sees which draft has more marks, advises more or fewer, and revises as it is told."""
    n, kind = request.body.get("n", 1), kind_of(request)
    if kind == "critique":
        more = shown(request, "likes best:").count("!") > shown(request, "likes least:").count("!")
        texts = ["A has more marks" if more else "A has fewer marks"]
    elif kind == "advice":
        texts = ["- more" if "more" in shown(request, "A review of it:") else "- fewer"]
    elif kind == "revision":
        best = request.body["messages"][-2]["content"]
        more = "- more" in request.body["messages"][-1]["content"]
        texts = [best + "!" * (i + 1) if more else best[: -(i + 1)] for i in range(n)]
    else:
        texts = [request.body["messages"][-1]["content"] + "!" * (8 + (i * 7 + 3) % 4) for i in range(n)]
    return chat(*texts, usage=(20, 6 * n))
