import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.sources.benchmarks import APART, LAMP, LONGLAMP, TASKS, Wording, task_named, task_of_question
from bestfor.errors import InputError

WORDS = st.lists(st.text("abcdäß01", min_size=1, max_size=6), min_size=1, max_size=5).map(" ".join)
TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=30)


@given(st.data())
def test_every_task_reads_back_what_it_words(data):
    task = TASKS[data.draw(st.sampled_from(sorted(TASKS)))]
    form = data.draw(st.sampled_from(task.questions))
    plain = form.plain.write({slot: data.draw(WORDS) for slot in form.plain.slots})
    assert task.plain(task.published(plain)) == plain


@given(TEXT, TEXT)
def test_single_slots_hold_any_text(first, second):
    wording = Wording("Say {one}: then {two}")
    assert wording.slots == ("one", "two")
    assert wording.read("say x: then y") is None
    assert Wording("Say {one}").read(f"Say  {first}") == {"one": first}
    assert Wording("{one}").write({"one": "{two}" + second}) == "{two}" + second


def test_tasks_are_found_by_every_spelling_in_use():
    for spelling in ("LaMP_4", "LaMP-4", "lamp4", "lamp_4"):
        assert task_named(spelling, LAMP, "task").name == "LaMP_4"
    assert task_named("LaMP_2M", LAMP, "task").name == "LaMP_2"
    assert task_named("LaMP-2-old", LAMP, "task").name == "LaMP_2N"
    for spelling in ("product_review", "product_review_user", "product_review_temporal", "product_review_writing"):
        assert task_named(spelling, LONGLAMP, "task").name == "product_review"
    with pytest.raises(InputError, match="task: found 'LaMP_8'; expected 'LaMP_"):
        task_named("LaMP_8", LAMP, "task")


QUESTIONS = {
    "LaMP_1": 'For an author who has written the paper with the title "A", which reference is related? Just answer '
    'with [1] or [2] without explanation. [1]: "B" [2]: "C"',
    "LaMP_2": "Which tag does this movie relate to among the following tags? Just answer with the tag name without "
    "further explanation. tags: [sci-fi, based on a book, comedy] description: A film.",
    "LaMP_2N": "Which category does this article relate to among the following categories? Just answer with the "
    "category name without further explanation. categories: [travel, education] article: Text.",
    "LaMP_3": "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 "
    "without further explanation. review: Good.",
    "LaMP_4": "Generate a headline for the following article: Something happened.",
    "LaMP_5": "Generate a title for the following abstract of a paper: We show.",
    "LaMP_6": "Generate a subject for the following email: Dear all,\nbye",
    "LaMP_7": "Paraphrase the following tweet without any explanation before or after it: so tired",
    "abstract_generation": 'Generate an abstract for the title "T" using the following items: 1. a\n2. b\n',
    "topic_writing": "Generate the content for a reddit post a dog",
    "email_generation": "Complete the text of the following email. title: Lunch. text: Dear all,\nlunch",
    "product_review": 'Generate the review text written by a reviewer who has a given an overall rating of "5.0" for a '
    'product with description "A "nice" cup". The summary of the review text is "Fine".',
}
PLAIN = {
    "LaMP_1": "paper: A\n[1]: B\n[2]: C",
    "LaMP_2": "A film.",
    "LaMP_2N": "Text.",
    "LaMP_3": "Good.",
    "LaMP_4": "Something happened.",
    "LaMP_5": "We show.",
    "LaMP_6": "Dear all,\nbye",
    "LaMP_7": "so tired",
    "abstract_generation": "title: T\nitems: 1. a\n2. b",
    "topic_writing": "a dog",
    "email_generation": "title: Lunch\ntext: Dear all,\nlunch",
    "product_review": 'rating: 5.0\nproduct: A "nice" cup\nsummary: Fine',
}


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_the_published_questions_are_recognised_and_lose_their_instruction(name):
    known = LAMP if name in LAMP else LONGLAMP
    assert task_of_question(QUESTIONS[name], known) is TASKS[name]
    assert TASKS[name].plain(QUESTIONS[name]) == PLAIN[name]
    assert TASKS[name].plain("worded otherwise") in ("worded otherwise",)


def test_a_question_in_no_known_words_has_no_task():
    assert task_of_question("What now?", APART) is None
    assert task_of_question("What now?", LONGLAMP) is None


PROMPTS = {
    "LaMP_1": (
        [("", "First\nAn abstract"), ("", "Second\nAnother")],
        'For an author who has written the paper with the title, and "First", and "Second" "A", which reference is '
        'related? Just answer with [1] or [2] without explanation. [1]: "B" [2]: "C"',
    ),
    "LaMP_2": ([("d", "comedy")], 'the tag for the movie: "d" is "comedy" . Which tag does this movie'),
    "LaMP_2N": ([("d", "travel")], 'the category for the article: "d" is "travel" . Which category'),
    "LaMP_3": (
        [("bad", "1"), ("ok", "3")],
        '1 is the score for "bad" , and 3 is the score for "ok" . What is the score',
    ),
    "LaMP_4": ([("text", "Head")], '"Head" is the title for "text" . ' + QUESTIONS["LaMP_4"]),
    "LaMP_5": (
        [("a1", "T1"), ("a2", "T2")],
        '"T1" is a title for "a1" , and "T2" is a title for "a2" . Following the given patterns ' + QUESTIONS["LaMP_5"],
    ),
    "LaMP_6": ([("mail", "Subj")], '"Subj" is the title for "mail" . Generate a subject'),
    "LaMP_7": (
        [("", "one"), ("", "two")],
        '"one" , and "two"  are written by a person. Following the given patterns ' + QUESTIONS["LaMP_7"],
    ),
    "abstract_generation": (
        [("title: T0", "We did.")],
        '"We did." is the abstract for the title "T0". Use the above abstracts as context to understand the style and '
        'language of the user and, Generate an abstract for the title "T" using the following items: 1. a\n2. b',
    ),
    "topic_writing": ([("s", "c")], '"s" is a summary for "c" . Following the given patterns, Generate the content'),
    "email_generation": (
        [("title: Report", "It is late.")],
        '"Report" is the title for "It is late." . ' + QUESTIONS["email_generation"],
    ),
    "product_review": (
        [("rating: 4.0\nproduct: d\nsummary: s", "long")],
        '"4.0" is a rating for the product with description "d". "s" is summary for "long" . Following the given '
        "patterns Generate the review text",
    ),
}


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_published_prompts_are_the_benchmarks_own(name):
    items, expected = PROMPTS[name]
    assert TASKS[name].prompt(items, PLAIN[name]).startswith(expected)
    short = TASKS[name].prompt([], PLAIN[name])
    if name != "LaMP_2" and name != "LaMP_2N":
        assert short == QUESTIONS[name].strip()
    else:
        assert ", ".join(TASKS[name].labels) in short
