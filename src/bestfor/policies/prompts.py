"""Build a chat that any model understands from a query and a user's earlier texts.

In our own words (:func:`messages`) earlier items are earlier turns: the input, then what this user wrote.
The item that matters most stands closest to the query. In a benchmark's words (:func:`published`) all is one turn, as
its own evaluation has it. Either way items are whole: :func:`fit` leaves out what finds no room, and counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bestfor.data.sources.benchmarks import CATEGORIES, TAGS, TASKS
from bestfor.errors import InputError, nearest
from bestfor.lm.chat import Item, Message, messages, turn
from bestfor.moved import renamed

__getattr__ = renamed(__name__, {"Fitted": "FittedChat"})

Template = Callable[[Sequence[Item], str], list[Message]]
"""The chat of items, the one that matters most first, and a query's input."""

_VOICE = (
    "The turns before show what this author wrote earlier: keep to the author's manner. Answer with the {kind} only."
)
_HABIT = "The turns before show how this person decided earlier. Answer with the {kind} only."

TEMPLATES: dict[str, str] = {
    "title": "You give papers their titles. Read the abstract and write the title its author would choose. "
    + _VOICE.format(kind="title"),
    "headline": "You give articles their headlines. Read the article and write the headline its author would choose. "
    + _VOICE.format(kind="headline"),
    "subject": "You give emails their subjects. Read the email and write the subject line its author would choose. "
    + _VOICE.format(kind="subject line"),
    "tweet": "You write tweets. Say what the tweet says in the words its author would choose; texts that the author "
    "wrote earlier stand before it. Answer with the tweet only.",
    "abstract": "You write abstracts of papers. Read the title, and the points to cover where there are any, and write "
    "the abstract its author would write. " + _VOICE.format(kind="abstract"),
    "post": "You write posts. Read the summary and write the whole post as its author would. "
    + _VOICE.format(kind="post"),
    "review": "You write reviews of products. Read the rating, the product and the summary, and write the whole review "
    "as its author would. " + _VOICE.format(kind="review"),
    "email": "You write emails. Read the title, and how the text begins where that is given, and write the text, or "
    "what follows its beginning, as its author would. " + _VOICE.format(kind="text"),
    "citation": "You choose references. Read the title of a paper and two references, and say which of them its author "
    "cites; papers that the author wrote earlier stand before it. Answer with [1] or [2] only.",
    "tag": "You tag movies. Read the description and choose the tag that this person would give, one of: "
    + f"{', '.join(TAGS)}. "
    + _HABIT.format(kind="tag"),
    "category": "You sort articles. Read the article and choose the category that its author would give, one of: "
    + f"{', '.join(CATEGORIES)}. "
    + _HABIT.format(kind="category"),
    "rating": "You rate reviews. Read the review and say how many stars, from 1 to 5, its author gave. "
    + _HABIT.format(kind="number"),
    "generic": "You write for one author. Read the request and answer as this author would. "
    + _VOICE.format(kind="text"),
}
"""Task instructions by kind of text."""


@dataclass(frozen=True)
class FittedChat:
    """Chat that keeps to its budget.

    Attributes:
        messages: the chat, in order.
        dropped: how many items found no room.
        cut: whether the query itself was cut.
    """

    messages: list[Message]
    dropped: int
    cut: bool = False


def instruction(kind: str) -> str:
    """Find the task instruction for a kind of text.

    Raises:
        InputError: no template has this name.
    """
    if kind not in TEMPLATES:
        raise InputError("prompt template", f"'{kind}'", nearest(kind, TEMPLATES))
    return TEMPLATES[kind]


def turns(task_instruction: str) -> Template:
    """Make the template of :func:`messages` with this instruction."""
    return partial(messages, task_instruction)


def published(task: str) -> Template:
    """Build a benchmark's own prompt, one user turn; quoted in :mod:`bestfor.data.sources.benchmarks`.

    The benchmarks cut items to a share of the budget; here items stay whole and some may be left out.

    Args:
        task: a name of :data:`bestfor.data.sources.benchmarks.TASKS`.

    Raises:
        InputError: no benchmark has this task.
    """
    if task not in TASKS:
        expected = "data of a benchmark (LaMP, LongLaMP)" if not task else nearest(task, TASKS)
        raise InputError("published prompt", f"task '{task}'", expected)
    known = TASKS[task]
    return lambda items, query_input: [turn("user", known.prompt(list(items), query_input))]


def fit(
    template: Template,
    items: Sequence[Item],
    query_input: str,
    *,
    budget: int,
    count: Callable[[list[Message]], int],
    truncate: bool = False,
) -> FittedChat:
    """Build the chat for one query with as many items as the budget holds.

    Items are taken whole, best first; one that finds no room is left out and the next is tried.

    Args:
        template: makes the chat.
        items: the user's earlier items, the one that matters most first.
        query_input: what is asked now.
        budget: the most tokens of the chat.
        count: tokens of a chat as the model reads it.
        truncate: cut the end of a query that is over the budget by itself, as the benchmarks' own evaluations do.

    Returns:
        The chat and the number of items left out.

    Raises:
        InputError: the query alone is over the budget, or all but it where it may be cut.
    """
    alone = count(template((), query_input))
    if alone > budget and truncate:
        kept_input = _longest(query_input, lambda text: count(template((), text)) <= budget)
        if kept_input:
            return FittedChat(template((), kept_input), len(items), cut=True)
    if alone > budget:
        raise InputError(f"query '{query_input[:40]}'", f"{alone} tokens without any item", f"at most {budget}")
    kept: list[Item] = []
    for item in items:
        if count(template([*kept, item], query_input)) <= budget:
            kept.append(item)
    return FittedChat(template(kept, query_input), len(items) - len(kept))


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """Find about the longest beginning of a text that fits, of whole words where it has any; empty where none does."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    begun = text[:low]
    whole = begun if not text[low : low + 1].strip() else begun.rpartition(" ")[0] or begun
    return next((one.rstrip() for one in (whole, begun) if one.strip() and fits(one.rstrip())), "")


def estimate(chat: Sequence[Message]) -> int:
    """Estimate the tokens of a chat without the model's own count: a token for every three bytes, four for a turn.

    English text has about four bytes a token, so this errs on the side of leaving items out.
    """
    return sum(4 + -(-len(turn["content"].encode()) // 3) for turn in chat)
