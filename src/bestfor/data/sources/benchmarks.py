"""The tasks of LaMP and LongLaMP: the wording of their questions, the fields of their items, and their prompts.

All strings are the benchmarks' own, quoted as facts of their formats: questions and item fields from the data files and
the repository LaMP-Benchmark/LaMP (Salemi et al. 2024, ``LaMP/prompts/prompts.py``), the seven tasks' names in
``eval/eval_task.py``, LongLaMP's from LongLaMP-benchmark/LongLaMP-Benchmark (Kumar et al. 2024: ``longLaMP/prompts``,
the emails' wording from ``data/avocado/create_avocado_dataset.py``) and its files on the hub.
"""

from __future__ import annotations

import re

from bestfor.data.wording import Asking, Task, Wording
from bestfor.errors import InputError, nearest


def _asking(published: str, plain: str) -> Asking:
    return Asking(Wording(published), Wording(plain))


TAGS = (
    *("sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic"),
    *("psychology", "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story"),
)
CATEGORIES = (
    *("travel", "education", "parents", "style & beauty", "entertainment", "food & drink", "science & technology"),
    *("business", "sports", "healthy living", "women", "politics", "crime", "culture & arts", "religion"),
)
SCORES = ("1", "2", "3", "4", "5")

_PATTERNS = Wording("{items}. Following the given patterns {question}")
_REVIEW = (
    'Generate the review text written by a reviewer who has a given an overall rating of "{overall}" for a product '
    'with description "{description}". The summary of the review text is "{summary}".'
)

_TASKS = (
    Task(
        "LaMP_1",
        "citation",
        (
            _asking(
                'For an author who has written the paper with the title "{title}", which reference is related? Just '
                'answer with [1] or [2] without explanation. [1]: "{first}" [2]: "{second}"',
                "paper: {title}\n[1]: {first}\n[2]: {second}",
            ),
        ),
        Wording("{title}\n{abstract}"),
        Wording('"{title}"'),
        around=Wording(""),
        labelled=False,
        metric="exact",
        labels=("[1]", "[2]"),
    ),
    Task(
        "LaMP_2",
        "tag",
        (
            _asking(
                "Which tag does this movie relate to among the following tags? Just answer with the tag name without "
                "further explanation. tags: [{labels}] description: {description}",
                "{description}",
            ),
        ),
        Wording("{tag}"),
        Wording('the tag for the movie: "{description}" is "{tag}" '),
        metric="exact",
        labels=TAGS,
    ),
    Task(
        "LaMP_2N",
        "category",
        (
            _asking(
                "Which category does this article relate to among the following categories? Just answer with the "
                "category name without further explanation. categories: [{labels}] article: {text}",
                "{text}",
            ),
        ),
        Wording("{category}"),
        Wording('the category for the article: "{text}" is "{category}" '),
        metric="exact",
        labels=CATEGORIES,
    ),
    Task(
        "LaMP_3",
        "rating",
        (
            _asking(
                "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 "
                "without further explanation. review: {text}",
                "{text}",
            ),
        ),
        Wording("{score}"),
        Wording('{score} is the score for "{text}" '),
        metric="absolute_error",
        labels=SCORES,
    ),
    Task(
        "LaMP_4",
        "headline",
        (_asking("Generate a headline for the following article: {text}", "{text}"),),
        Wording("{title}"),
        Wording('"{title}" is the title for "{text}" '),
    ),
    Task(
        "LaMP_5",
        "title",
        (_asking("Generate a title for the following abstract of a paper: {abstract}", "{abstract}"),),
        Wording("{title}"),
        Wording('"{title}" is a title for "{abstract}" '),
        _PATTERNS,
    ),
    Task(
        "LaMP_6",
        "subject",
        (_asking("Generate a subject for the following email: {text}", "{text}"),),
        Wording("{title}"),
        Wording('"{title}" is the title for "{text}" '),
    ),
    Task(
        "LaMP_7",
        "tweet",
        (_asking("Paraphrase the following tweet without any explanation before or after it: {tweet}", "{tweet}"),),
        Wording("{text}"),
        Wording('"{text}" '),
        Wording("{items} are written by a person. Following the given patterns {question}"),
        labelled=False,
    ),
    Task(
        "abstract_generation",
        "abstract",
        (
            _asking(
                'Generate an abstract for the title "{title}" using the following items: {items}',
                "title: {title}\nitems: {items}",
            ),
            _asking('Generate an abstract for the title "{title}"', "title: {title}"),
        ),
        Wording("{abstract}"),
        Wording('"{abstract}" is the abstract for the title "{title}"'),
        Wording(
            "{items}. Use the above abstracts as context to understand the style and language of the user and, "
            "{question}"
        ),
        user="name",
    ),
    Task(
        "topic_writing",
        "post",
        (_asking("Generate the content for a reddit post {summary}", "{summary}"),),
        Wording("{content}"),
        Wording('"{summary}" is a summary for "{content}" '),
        Wording("{items}. Following the given patterns, {question}"),
        user="author",
    ),
    Task(
        "product_review",
        "review",
        (_asking(_REVIEW, "rating: {overall}\nproduct: {description}\nsummary: {summary}"),),
        Wording("{reviewText}"),
        Wording(
            '"{overall}" is a rating for the product with description "{description}". "{summary}" is summary for '
            '"{reviewText}" '
        ),
        _PATTERNS,
        user="reviewerId",
    ),
    Task(
        "email_generation",
        "email",
        (
            _asking(
                "Complete the text of the following email. title: {title}. text: {text}", "title: {title}\ntext: {text}"
            ),
            _asking("Complete the text of the following email. title: {title}.", "title: {title}"),
        ),
        Wording("{text}"),
        Wording('"{title}" is the title for "{text}" '),
        user="author",
    ),
)
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}
"""By name: LaMP_1 to LaMP_7 (LaMP_2N is the first release's LaMP-2, on news) and the four of LongLaMP."""

LAMP = tuple(name for name in TASKS if name.startswith("LaMP"))
LONGLAMP = tuple(name for name in TASKS if not name.startswith("LaMP"))
APART = (*LAMP, "email_generation")
"""Tasks whose outputs lie in a file of their own; LongLaMP's emails are made by a script in LaMP's layout."""


def task_named(name: str, known: tuple[str, ...], where: str) -> Task:
    """A task by any spelling in use: ``LaMP_4``, ``LaMP-4``, ``lamp4``, ``LaMP_2M``, ``product_review_temporal``.

    Raises:
        InputError: none of these; ``where`` names the place.
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    plain = re.sub(r"(user|temporal|time)$", "", plain)
    plain = {"lamp2m": "lamp2", "lamp2new": "lamp2", "lamp2old": "lamp2n", "emailcompletion": "emailgeneration"}.get(
        plain, plain
    )
    plain = plain.removesuffix("writing") if plain == "productreviewwriting" else plain
    for task in known:
        if re.sub(r"[^a-z0-9]", "", task.lower()) == plain:
            return TASKS[task]
    raise InputError(where, f"'{name}'", nearest(name, known))


def task_of_question(question: str, known: tuple[str, ...]) -> Task | None:
    """The task whose wording a question has, None where there is none."""
    for name in known:
        worded = [
            asking.published
            for asking in TASKS[name].askings
            if asking.published.slots[0] != asking.published.text[1:-1]
        ]
        if any(wording.read(question) is not None for wording in worded):
            return TASKS[name]
    return None
