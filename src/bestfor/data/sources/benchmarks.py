"""Tasks of LaMP and LongLaMP: the wording of questions, the fields of items, and prompts, written and read back.

All strings are the benchmarks' own, quoted as facts of their formats: questions and item fields from the data files and
the repository LaMP-Benchmark/LaMP (Salemi et al. 2024, ``LaMP/prompts/prompts.py``), the seven tasks' names in
``eval/eval_task.py``, LongLaMP's from LongLaMP-benchmark/LongLaMP-Benchmark (Kumar et al. 2024: ``longLaMP/prompts``,
the emails' wording from ``data/avocado/create_avocado_dataset.py``) and its files on the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bestfor.errors import InputError, nearest
from bestfor.moved import renamed

__getattr__ = renamed(__name__, {"Asking": "QuestionForm"})
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Wording:
    """Template with named slots that is written and read back.

    Attributes:
        text: for example ``"Generate a title for the following abstract of a paper: {abstract}"``.
    """

    text: str

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots, in order."""
        return tuple(_SLOT.findall(self.text))

    def write(self, values: Mapping[str, str]) -> str:
        """Fill the slots; values are taken as they are, braces included."""
        return _SLOT.sub(lambda slot: values[slot[1]], self.text)

    def read(self, text: str) -> dict[str, str] | None:
        """Read the values of the slots from a text, None where it is worded otherwise; white space may differ."""
        found = self._pattern.fullmatch(text.strip())
        return None if found is None else found.groupdict()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = _SLOT.split(self.text.strip())
        words = [f"(?P<{part}>.*?)" if at % 2 else _loosely(part) for at, part in enumerate(parts)]
        return re.compile("".join(words), re.DOTALL)


def _loosely(words: str) -> str:
    """Build a pattern of words with any white space between (an end of line stays one), perhaps none at the end."""
    parts = re.split(r"(\s+)", words)
    spaces = [r"\s*\n\s*" if "\n" in part else r"\s+" for part in parts[1::2]]
    if spaces and parts[-1] == "" and spaces[-1] == r"\s+":
        spaces[-1] = r"\s*"
    return "".join(re.escape(word) + space for word, space in zip(parts[::2], [*spaces, ""], strict=True))


@dataclass(frozen=True)
class QuestionForm:
    """Wordings of one kind of question: the benchmark's, and a plain input without instruction.

    Attributes:
        published: the benchmark's wording of a question.
        plain: what is kept as a query's or an item's input.
    """

    published: Wording
    plain: Wording


@dataclass(frozen=True)
class Task:
    """Task of a benchmark: how its questions, its items and its prompts are worded.

    Attributes:
        name: as the benchmark's files of outputs name it.
        kind: names the template in our own words, see :mod:`bestfor.policies.prompts`.
        questions: wordings of questions; the last is that of history items.
        output: of an item's fields, what the user wrote.
        shown: an item within the benchmark's prompt.
        around: the benchmark's prompt of ``{items}`` and ``{question}``; empty where items are put into the question.
        user: the field of a row that names its user, where the files have one.
        labelled: whether history items are questions of the task's kind: if not, they are shown and never asked.
        metric: what a run measures where it names no metric.
        labels: the only answers, where these are fixed.
    """

    name: str
    kind: str
    questions: tuple[QuestionForm, ...]
    output: Wording
    shown: Wording
    around: Wording = field(default_factory=lambda: Wording("{items}. {question}"))
    user: str = "user_id"
    labelled: bool = True
    metric: str = "rougeL"
    labels: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that an item must have."""
        asked = self.questions[-1].plain.slots if self.labelled else ()
        return tuple(dict.fromkeys([*asked, *self.output.slots]))

    def plain(self, question: str) -> str:
        """Strip a published question of its instruction; a question in other words stays as it is."""
        for form in self.questions:
            values = form.published.read(question)
            if values is not None:
                return form.plain.write(values)
        return question

    def published(self, plain: str) -> str:
        """Word a plain input as the benchmark's question."""
        for form in self.questions:
            values = form.plain.read(plain)
            if values is not None:
                return form.published.write({"labels": ", ".join(self.labels), **values})
        return plain

    def item(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Input and output of a history item of these fields; an item that was not asked for has an empty input."""
        asked = self.questions[-1].plain.write(values) if self.labelled else ""
        return asked, self.output.write(values)

    def prompt(self, items: list[tuple[str, str]], plain: str) -> str:
        """Build the benchmark's prompt: items, the one that matters most first, and the question."""
        question = self.published(plain)
        if not items:
            return question
        joined = ", and ".join(self._shown(*item) for item in items)
        if self.around.text:
            return self.around.write({"items": joined, "question": question})
        before, mark, after = question.partition("title")
        return f"{before}{mark}, and {joined}{after}" if mark else question

    def _shown(self, asked: str, wrote: str) -> str:
        values = dict.fromkeys(self.shown.slots, wrote)
        values |= (self.questions[-1].plain.read(asked) or {}) if self.labelled else {}
        return self.shown.write(values | (self.output.read(wrote) or {}))


def _form(published: str, plain: str) -> QuestionForm:
    return QuestionForm(Wording(published), Wording(plain))


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
            _form(
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
            _form(
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
            _form(
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
            _form(
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
        (_form("Generate a headline for the following article: {text}", "{text}"),),
        Wording("{title}"),
        Wording('"{title}" is the title for "{text}" '),
    ),
    Task(
        "LaMP_5",
        "title",
        (_form("Generate a title for the following abstract of a paper: {abstract}", "{abstract}"),),
        Wording("{title}"),
        Wording('"{title}" is a title for "{abstract}" '),
        _PATTERNS,
    ),
    Task(
        "LaMP_6",
        "subject",
        (_form("Generate a subject for the following email: {text}", "{text}"),),
        Wording("{title}"),
        Wording('"{title}" is the title for "{text}" '),
    ),
    Task(
        "LaMP_7",
        "tweet",
        (_form("Paraphrase the following tweet without any explanation before or after it: {tweet}", "{tweet}"),),
        Wording("{text}"),
        Wording('"{text}" '),
        Wording("{items} are written by a person. Following the given patterns {question}"),
        labelled=False,
    ),
    Task(
        "abstract_generation",
        "abstract",
        (
            _form(
                'Generate an abstract for the title "{title}" using the following items: {items}',
                "title: {title}\nitems: {items}",
            ),
            _form('Generate an abstract for the title "{title}"', "title: {title}"),
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
        (_form("Generate the content for a reddit post {summary}", "{summary}"),),
        Wording("{content}"),
        Wording('"{summary}" is a summary for "{content}" '),
        Wording("{items}. Following the given patterns, {question}"),
        user="author",
    ),
    Task(
        "product_review",
        "review",
        (_form(_REVIEW, "rating: {overall}\nproduct: {description}\nsummary: {summary}"),),
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
            _form(
                "Complete the text of the following email. title: {title}. text: {text}", "title: {title}\ntext: {text}"
            ),
            _form("Complete the text of the following email. title: {title}.", "title: {title}"),
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
    """Find a task by any spelling in use: ``LaMP_4``, ``LaMP-4``, ``lamp4``, ``LaMP_2M``, ``product_review_temporal``.

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
    """Find the task by the wording of a question, None where there is none."""
    for name in known:
        worded = [
            form.published for form in TASKS[name].questions if form.published.slots[0] != form.published.text[1:-1]
        ]
        if any(wording.read(question) is not None for wording in worded):
            return TASKS[name]
    return None
