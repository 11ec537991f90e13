"""Files in the shapes that LaMP and OPPU publish, small ones written here."""

import gzip
import json

import pytest

from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.sources.lamp import LampFiles, load_lamp
from bestfor.errors import InputError

TAGS = "sci-fi, based on a book, comedy, action, twist ending, dystopia, dark comedy, classic, psychology, fantasy"
PUBLISHED = {
    "LaMP_1": (
        'For an author who has written the paper with the title "Graphs", which reference is related? Just answer with '
        '[1] or [2] without explanation. [1]: "Trees" [2]: "Cats"',
        "[1]",
        {"title": "My first paper", "abstract": "We show it.", "id": "01"},
    ),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
        f"explanation. tags: [{TAGS}] description: Two friends laugh.",
        "comedy",
        {"id": "21", "tag": "classic", "description": "An old film."},
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
        "further explanation. review: Broke at once.",
        "1",
        {"text": "Lovely cup.", "score": "5", "id": "310"},
    ),
    "LaMP_4": (
        "Generate a headline for the following article: The fair was wet.",
        "Rain Falls On Fair",
        {"text": "The mayor spoke.", "title": "Mayor Speaks", "id": "410"},
    ),
    "LaMP_5": (
        "Generate a title for the following abstract of a paper: We parse.",
        "On Parsing",
        {"title": "On Tagging", "abstract": "We tag.", "id": "510"},
    ),
    "LaMP_6": (
        "Generate a subject for the following email: Dear all, lunch is at noon.",
        "Lunch",
        {"text": "The report is late.", "title": "Report", "id": "610"},
    ),
    "LaMP_7": (
        "Paraphrase the following tweet without any explanation before or after it: i am so very tired today",
        "soooo tired 2day",
        {"text": "no coffee left :(", "id": "710"},
    ),
}
PLAIN = {
    "LaMP_1": ("paper: Graphs\n[1]: Trees\n[2]: Cats", "", "My first paper\nWe show it."),
    "LaMP_2": ("Two friends laugh.", "An old film.", "classic"),
    "LaMP_3": ("Broke at once.", "Lovely cup.", "5"),
    "LaMP_4": ("The fair was wet.", "The mayor spoke.", "Mayor Speaks"),
    "LaMP_5": ("We parse.", "We tag.", "On Tagging"),
    "LaMP_6": ("Dear all, lunch is at noon.", "The report is late.", "Report"),
    "LaMP_7": ("i am so very tired today", "", "no coffee left :("),
}


def question(name="40", text="The fair was wet.", profile=(), **more):
    asked = f"Generate a headline for the following article: {text}"
    return {"id": name, "input": asked, "profile": list(profile), **more}


def item(name="410", text="The mayor spoke.", title="Mayor Speaks", **more):
    return {"text": text, "title": title, "id": name, **more}


@pytest.mark.parametrize("task", sorted(PUBLISHED))
@pytest.mark.parametrize("told", ["outputs", "wording", "user"])
def test_every_task_as_published(save, task, told):
    asked, gold, profile = PUBLISHED[task]
    paths = save([{"id": "40", "input": asked, "profile": [profile]}], {"40": gold}, task)
    if told == "outputs":
        data = load_lamp(*paths)
    else:
        data = load_lamp(paths[0], None, task=task.replace("_", "-") if told == "user" else None)
    plain, item_input, item_output = PLAIN[task]
    reference = gold if told == "outputs" else None
    assert data.queries.to_pylist() == [
        {
            "query_id": "40",
            "user_id": "40",
            "input": plain,
            "reference": reference,
            "split": "test",
            "timestamp": None,
        }
    ]
    assert data.histories.to_pylist() == [
        {"user_id": "40", "item_id": profile["id"], "input": item_input, "output": item_output, "timestamp": None}
    ]
    assert data.task == task
    assert TASKS[task].metric == {"LaMP_1": "exact", "LaMP_2": "exact", "LaMP_3": "absolute_error"}.get(task, "rougeL")


def test_news_is_lamp_2_of_the_first_release(save):
    asked = (
        "Which category does this article relate to among the following categories? Just answer with the category name "
        "without further explanation. categories: [travel, education] article: By train."
    )
    profile = [{"text": "By boat.", "title": "Boats", "category": "travel", "id": "1"}]
    data = load_lamp(*save([{"id": "2", "input": asked, "profile": profile}], None, "LaMP_2N"))
    assert data.queries["input"].to_pylist() == ["By train."]
    assert data.histories.select(["input", "output"]).to_pylist() == [{"input": "By boat.", "output": "travel"}]


def test_dates_of_the_split_by_time_are_seconds(save):
    dates = ["2012", "2012-05-30", "2012-05-30 10:00:00", "1338336000", 1338336000000, 2013.0]
    profile = [item(str(at), text=f"t{at}", date=date) for at, date in enumerate(dates)]
    data = load_lamp(*save([question(profile=profile, date="2014-01-01")]))
    day = 1338336000
    expected = [1325376000, day, day + 36000, day, day, 1356998400]
    assert data.histories["timestamp"].to_pylist() == expected
    assert data.queries["timestamp"].to_pylist() == [1388534400]


def test_where_some_items_have_no_date_their_order_counts(save):
    profile = [item("1", text="a", date="2012"), item("2", text="b"), item("3", text="c", date="")]
    assert load_lamp(*save([question(profile=profile)])).histories["timestamp"].to_pylist() == [None] * 3


def test_questions_with_the_same_profile_are_one_users(save):
    shared = [item("1", text="a"), item("2", text="b")]
    # The benchmark numbers items within a question: the same item has another id in the next one.
    again = [item("8", text="b"), item("9", text="a ")]
    rows = [question("q1", "x", shared), question("q2", "y", again), question("q3", "z", shared[:1])]
    data = load_lamp(*save(rows))
    assert data.queries["user_id"].to_pylist() == ["q1", "q1", "q3"]
    assert data.histories.select(["user_id", "item_id"]).to_pylist() == [
        {"user_id": "q1", "item_id": "1"},
        {"user_id": "q1", "item_id": "2"},
        {"user_id": "q3", "item_id": "1"},
    ]


def test_users_with_ids_keep_all_they_wrote_once(save):
    rows = [
        question("q1", "x", [item("1", text="a"), item("2", text="b")], user_id="ann"),
        question(
            "q2", "y", [item("1", text="a"), item("3", text="c"), item("2", text="another of this name")], user_id="ann"
        ),
        question("q3", "z", [], user_id="bob"),
    ]
    data = load_lamp(*save(rows))
    assert data.queries["user_id"].to_pylist() == ["ann", "ann", "bob"]
    assert data.histories["item_id"].to_pylist() == ["1", "2", "3", "2#2"]
    assert data.histories["input"].to_pylist() == ["a", "b", "c", "another of this name"]
    assert data.notes == ("1 users have no history",)
    assert load_lamp(*save(rows), users=1).queries["query_id"].to_pylist() == ["q1", "q2"]


def test_repeated_and_empty_items_are_left_out_and_counted(save):
    accented = [item("1", text="caf\u00e9"), item("2", text="cafe\u0301"), item("3", text="x", title=" ")]
    data = load_lamp(*save([question(profile=accented)]))
    assert data.histories["item_id"].to_pylist() == ["1"], "the same letters in two forms of Unicode are the same text"
    assert data.notes == (
        "1 history items that repeat another of the same user were left out",
        "1 history items without a text by the user were left out",
    )


def test_an_item_that_is_a_test_question_is_nobodys_history(save):
    """Each question's profile is all else that its author wrote: without user ids these are three users."""
    written = [item(str(at), text=f"a{at}", title=f"t{at}") for at in range(3)]
    rows = [question(f"q{at}", f"a{at}", [one for one in written if one["id"] != str(at)]) for at in range(2)]
    data = load_lamp(*save(rows, {"q0": " t0", "q1": "rewritten"}))
    kept = data.histories.select(["user_id", "item_id"]).to_pylist()
    assert kept == [
        {"user_id": "q0", "item_id": "1"},
        {"user_id": "q0", "item_id": "2"},
        {"user_id": "q1", "item_id": "2"},
    ]
    assert data.notes == ("1 history items that are test questions, word for word, were left out",)


def test_any_script_survives(save):
    text = '大会は雨 🌧️ Ünïcode \u202bעברית\u202c {braces} \\ " \x00'
    data = load_lamp(*save([question(text=text, profile=[item(text=text, title=text)])], {"40": f"{text}!"}))
    assert data.histories.select(["input", "output"]).to_pylist() == [{"input": text, "output": text}]
    assert data.queries.select(["input", "reference"]).to_pylist() == [{"input": text, "reference": f"{text}!"}]


def test_a_history_of_ten_thousand_items(save):
    profile = [item(str(at), text=f"article {at}", title=f"Head {at}", date="2012-01-01") for at in range(10_000)]
    data = load_lamp(*save([question(profile=profile)]))
    assert data.histories.num_rows == 10_000
    assert data.histories["output"].to_pylist()[-1] == "Head 9999"


def test_oppus_layout_of_the_most_active_users(save, tmp_path):
    users = [
        {
            "profile": [item("1", text="a"), item("2", text="b")],
            "query": [{"id": "q1", "input": "x"}, {"id": "q2", "input": "y"}],
        },
        {"profile": [item("1", text="c")], "query": [{"id": "q3", "input": "z", "gold": "own"}]},
        {"profile": [item("1", text="d")], "query": []},
    ]
    others = tmp_path / "user_others.json"
    other = {"user_id": 7, "profile": [item("1", text="e")], "query": [{"id": "q1", "input": "w", "gold": "seen"}]}
    others.write_text(json.dumps([other]))
    path = tmp_path / "user_top_100_history.json"
    path.write_text(json.dumps(users))
    _, labels = save([], {"q1": "one", "q2": "two", "q3": "three"})
    data = load_lamp(path, labels)
    assert data.queries.select(["query_id", "user_id", "reference"]).to_pylist() == [
        {"query_id": "q1", "user_id": "q1", "reference": "one"},
        {"query_id": "q2", "user_id": "q1", "reference": "two"},
        {"query_id": "q3", "user_id": "q3", "reference": "three"},
    ]
    assert data.histories["user_id"].to_pylist() == ["q1", "q1", "q3"]
    assert load_lamp(path, task="LaMP_4").queries["reference"].to_pylist() == [None, None, "own"]
    learned = load_lamp(path, labels, fit=LampFiles(others)).queries.slice(3).to_pylist()
    assert [(row["query_id"], row["user_id"], row["reference"]) for row in learned] == [("fit-q1", "7", "seen")]


def test_longlamps_emails_are_laid_out_as_lamps_files_are(save, tmp_path):
    asked = "Complete the text of the following email. title: Lunch. text: Dear all, lunch"
    profile = [{"id": "m1", "title": "Report", "text": "The report is late."}]
    questions, _ = save([{"id": "1", "input": asked, "profile": profile, "user_id": "e1"}])
    bare = tmp_path / "dev_outputs.json"
    bare.write_text(json.dumps([{"id": "1", "output": "is at noon."}]))
    data = load_lamp(questions, bare)
    assert data.task == "email_generation"
    assert data.queries.select(["user_id", "input", "reference"]).to_pylist() == [
        {"user_id": "e1", "input": "title: Lunch\ntext: Dear all, lunch", "reference": "is at noon."}
    ]
    assert data.histories.select(["item_id", "input", "output"]).to_pylist() == [
        {"item_id": "m1", "input": "title: Report", "output": "The report is late."}
    ]


def test_training_questions_bring_labels(save):
    test = save([question("1", "x", [item("1", text="a")])])
    train = save(
        [question("1", "y", [item("1", text="b")]), question("2", "z", [])], {"1": "yes", "2": "no"}, name="train"
    )
    data = load_lamp(*test, fit=LampFiles(*train))
    assert data.queries.select(["query_id", "split", "reference"]).to_pylist() == [
        {"query_id": "1", "split": "test", "reference": "gold"},
        {"query_id": "fit-1", "split": "fit", "reference": "yes"},
        {"query_id": "fit-2", "split": "fit", "reference": "no"},
    ]
    assert data.signature != load_lamp(*test).signature
    with pytest.raises(InputError, match="row 1: found no output of question '1'; expected one for each question to"):
        load_lamp(*test, fit=LampFiles(train[0]))


def test_packed_files_and_bare_lists_of_outputs(save, tmp_path):
    questions, _ = save([question()])
    packed, bare = tmp_path / "q.json.gz", tmp_path / "bare.json"
    packed.write_bytes(gzip.compress(questions.read_bytes()))
    bare.write_text(json.dumps([{"id": "40", "output": 3}]))
    data = load_lamp(packed, bare)
    assert data.task == "LaMP_4"
    assert data.queries["reference"].to_pylist() == ["3"]


def test_the_real_authors_are_read(titles_dir):
    data = load_lamp(titles_dir / "dev_questions.json", titles_dir / "dev_outputs.json")
    assert (data.task, data.queries.num_rows, data.histories.num_rows) == ("LaMP_5", 171, 478)
    assert len(set(data.queries["user_id"].to_pylist())) == 57
    assert data.histories["timestamp"].null_count == 0
    assert not any(text.startswith("Generate") for text in data.queries["input"].to_pylist())
