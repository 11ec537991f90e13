"""Exports of other tools become labels: shapes of their documentation, each thing once, nothing guessed."""

import json

import pytest

pytest.importorskip("sqlalchemy")

from bestfor.errors import InputError
from bestfor.serving.imports import ImportOptions, import_files
from bestfor.serving.journal import Journal, database


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "feedback.db") as opened:
        yield opened


@pytest.fixture
def written(tmp_path):
    """Writes rows into a file of JSON, or JSON lines."""

    def write(name, rows):
        path = tmp_path / name
        lines = name.endswith("l")
        path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), encoding="utf-8")
        return path

    return write


def said(journal, user):
    """What is known of a user: kind, value and texts of each label, in the order of their keys."""
    return [(label.kind, label.value, label.texts) for label, _ in journal.labels_of("", user)]


TRACES = [
    {
        "id": "t1", "userId": "ann", "timestamp": "2026-03-01T10:00:00.000Z",
        "input": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A title?"}]},
        "output": {"role": "assistant", "content": "Short title"},
    },
    {"id": "t2", "userId": None, "timestamp": "2026-03-01T11:00:00Z", "input": "hello", "output": "world"},
    {"id": "t3", "userId": "ben", "timestamp": "2026-03-02T11:00:00Z", "input": '"A title?"', "output": "Long title"},
]  # fmt: skip


def test_langfuse_traces_and_scores(journal, written):
    scores = [
        {"id": "s1", "traceId": "t1", "name": "thumbs", "value": 1, "dataType": "NUMERIC", "source": "API",
         "timestamp": "2026-03-01T10:05:00Z", "comment": "to the point"},
        {"id": "s2", "traceId": "t2", "name": "thumbs", "value": 0, "dataType": "NUMERIC", "source": "API"},
        {"id": "s3", "traceId": "t3", "name": "thumbs", "value": 0, "dataType": "BOOLEAN", "source": "ANNOTATION"},
        {"id": "s4", "traceId": "t3", "name": "toxic", "value": 0.25, "dataType": "NUMERIC", "source": "EVAL"},
        {"id": "s5", "traceId": "gone", "name": "thumbs", "value": 1, "dataType": "NUMERIC", "source": "API"},
    ]  # fmt: skip
    files = [written("traces.json", TRACES), written("scores.jsonl", scores)]
    done = import_files(journal, files, "langfuse")
    assert done.labels == {"comment": 1, "thumb": 2}
    assert done.left_out == {
        "nobody knows of which user": 1,
        "not said by a person": 1,
        "about an answer that is not in the files": 1,
    }
    assert said(journal, "ann") == [
        ("thumb", 1.0, ("Short title",)),
        ("comment", None, ("to the point", "Short title")),
    ]
    assert said(journal, "ben") == [("thumb", 0.0, ("Long title",))]
    (label, _), *_ = journal.labels_of("", "ann")
    assert (label.prompt, label.time) == ("A title?", 1772359500.0)
    again = import_files(journal, files, "langfuse")
    assert (again.labels, again.same, again.changed) == ({}, 3, 0)


def test_langfuse_scores_within_traces_in_a_table_and_as_a_page(journal, written, tmp_path):
    score = {"id": "s", "name": "stars", "value": 4, "dataType": "NUMERIC", "source": "API"}
    page = written("page.json", {"data": [{**TRACES[0], "scores": [score]}], "meta": {"page": 1}})
    options = ImportOptions(scale=(1, 5))
    assert import_files(journal, [page], "langfuse", options).labels == {"rating": 1}
    (label, _) = journal.labels_of("", "ann")[0]
    assert (label.kind, label.value, label.low, label.high) == ("rating", 4.0, 1.0, 5.0)
    table = tmp_path / "scores.csv"
    table.write_text("id,traceId,name,value,stringValue,dataType,source\nx,t3,mood,,good,CATEGORICAL,API\n")
    with pytest.raises(InputError, match="--word: found the category 'good' of 'mood'"):
        import_files(journal, [written("traces.json", TRACES), table], "langfuse")
    options = ImportOptions(words={"good": 1.0})
    done = import_files(journal, [written("traces.json", TRACES), table], "langfuse", options)
    assert done.labels == {"thumb": 1}
    assert said(journal, "ben") == [("thumb", 1.0, ("Long title",))]


def test_langsmith_runs_feedback_and_corrections(journal, written):
    runs = [
        {"id": "r1", "inputs": {"question": "A title?"}, "outputs": {"output": "First"},
         "start_time": "2026-03-01T10:00:00", "extra": {"metadata": {"user_id": "ann"}}},
        {"id": "r2", "inputs": {"messages": [[{"type": "human", "data": {"content": "Hi"}}]]},
         "outputs": {"generations": [[{"text": "Hello", "message": {"kwargs": {"content": "Hello"}}}]]},
         "start_time": "2026-03-01T10:00:00", "extra": {"metadata": {"user_id": "ben"}}},
    ]  # fmt: skip
    feedback = [
        {"id": "f1", "run_id": "r1", "key": "user_score", "score": 1.0, "created_at": "2026-03-01T12:00:00+00:00",
         "feedback_source": {"type": "api"}},
        {"id": "f2", "run_id": "r1", "key": "correction", "score": None, "correction": {"output": "First, better"},
         "feedback_source": {"type": "app"}},
        {"id": "f3", "run_id": "r2", "key": "user_score", "score": False, "feedback_source": {"type": "app"}},
        {"id": "f4", "run_id": "r2", "key": "helpful", "score": 0.4, "feedback_source": {"type": "model"}},
    ]  # fmt: skip
    done = import_files(journal, [written("runs.jsonl", runs), written("feedback.jsonl", feedback)], "langsmith")
    assert (done.answers, done.labels) == (1, {"edit": 1, "thumb": 2})
    assert said(journal, "ann") == [("thumb", 1.0, ("First",)), ("edit", None, ("First, better",))]
    assert said(journal, "ben") == [("thumb", 0.0, ("Hello",))]
    (edited,) = journal.answers_of("", "ann")
    assert (edited.prompt, edited.texts, edited.rule) == ("A title?", ("First",), "imported")


@pytest.mark.parametrize("flat", [True, False])
def test_phoenix_spans_and_annotations(journal, written, flat):
    message = json.dumps({"messages": [{"role": "user", "content": "A title?"}]})
    values = {"input.value": message, "output.value": "A span", "user.id": "ann"}
    span = {"context.span_id": "a1", **{f"attributes.{name}": one for name, one in values.items()}}
    if not flat:
        span = {"context": {"span_id": "a1", "trace_id": "t"}, "attributes": values, "start_time": "2026-03-01"}
    annotations = {
        "data": [
            {"id": "n1", "span_id": "a1", "name": "feedback", "annotator_kind": "HUMAN",
             "result": {"label": "thumbs_down", "score": None, "explanation": "too dry"}},
            {"id": "n2", "span_id": "a1", "name": "correct", "annotator_kind": "LLM", "result": {"score": 0.5}},
        ],
        "next_cursor": None,
    }  # fmt: skip
    done = import_files(journal, [written("spans.json", [span]), written("notes.json", annotations)], "phoenix")
    assert done.labels == {"comment": 1, "thumb": 1}
    assert said(journal, "ann") == [("thumb", 0.0, ("A span",)), ("comment", None, ("too dry", "A span"))]


def chat(messages):
    return {"chat": {"id": "c", "user_id": "ann", "chat": {"history": {"messages": messages, "currentId": "m2"}}}}


def test_open_webui_thumbs_details_and_choices_between_models(journal, written):
    messages = {
        "m1": {"id": "m1", "parentId": None, "role": "user", "content": "A title?", "childrenIds": ["m2", "m3"]},
        "m2": {"id": "m2", "parentId": "m1", "role": "assistant", "content": "One", "model": "a"},
        "m3": {"id": "m3", "parentId": "m1", "role": "assistant", "content": "Two", "model": "b"},
    }
    plain = {"type": "rating", "version": 0, "created_at": 1704067200, "updated_at": 1704067300}
    records = [
        {"id": "f1", "user_id": "ann", **plain, "meta": {"message_id": "m2"}, "snapshot": chat(messages),
         "data": {"rating": 1, "model_id": "a", "sibling_model_ids": ["b"], "comment": ""}},
        {"id": "f2", "user_id": "ben", **plain, "meta": {"message_id": "m3"}, "snapshot": chat(list(messages.values())),
         "data": {"rating": -1, "model_id": "b", "sibling_model_ids": None, "details": {"rating": 3}, "comment": "no"}},
        {"id": "f3", "user_id": "cem", **plain, "meta": {"message_id": "m2"}, "snapshot": chat(messages),
         "data": {"rating": -1, "model_id": "a", "sibling_model_ids": None}},
    ]  # fmt: skip
    done = import_files(journal, [written("feedback.json", records)], "openwebui")
    assert done.labels == {"comment": 1, "preference": 1, "rating": 1, "thumb": 1}
    assert said(journal, "ann") == [("preference", None, ("One", "Two"))]
    assert said(journal, "ben") == [("rating", 3.0, ("Two",)), ("comment", None, ("no", "Two"))]
    assert said(journal, "cem") == [("thumb", 0.0, ("One",))]
    (label, _) = journal.labels_of("", "ben")[0]
    assert (label.low, label.high, label.prompt, label.time) == (1.0, 10.0, "A title?", 1704067300.0)


def test_a_plain_table_of_all_kinds(journal, tmp_path):
    table = tmp_path / "said.csv"
    table.write_text(
        "user,prompt,text,thumb,over,edit,comment,time\n"
        "ann,p,one,yes,,,,2026-01-01\n"
        "ann,p,one,,two,,,2026-01-02\n"
        "ben,p,one,no,,,fine,\n"
        'ben,p,one,,,"one, but better",,\n',
        encoding="utf-8",
    )
    done = import_files(journal, [table], "csv")
    assert done.labels == {"comment": 1, "edit": 1, "preference": 1, "thumb": 2}
    assert sorted(said(journal, "ann")) == [("preference", None, ("one", "two")), ("thumb", 1.0, ("one",))]
    assert import_files(journal, [table], "csv").same == 5


def test_nothing_of_a_forgotten_person_comes_back(journal, tmp_path):
    table = tmp_path / "said.csv"
    table.write_text("user,text,thumb\nann,one,1\nben,two,0\n")
    import_files(journal, [table], "csv")
    journal.forget("", "ann")
    done = import_files(journal, [table], "csv")
    assert (done.same, done.left_out) == (1, {"of a person who was forgotten": 1})
    assert said(journal, "ann") == []


def test_what_was_withdrawn_stays_withdrawn(journal, tmp_path):
    table = tmp_path / "said.csv"
    table.write_text("user,text,thumb,key\nann,one,1,k\n")
    import_files(journal, [table], "csv")
    assert journal.withdraw("", "csv:k")
    assert import_files(journal, [table], "csv").left_out == {"withdrawn since it was read": 1}


@pytest.mark.parametrize(
    ("text", "options", "line"),
    [
        ("user,text,score\nann,one,3\nann,two,5\n", {}, "--scale: found scores from 3 to 5; expected LOW:HIGH"),
        ("user,text,score\nann,one,7\n", {"scale": (1, 5)}, "row 1: found a score of 7; expected a number from 1 to 5"),
        ("user,text\nann,one\n", {}, "1 rows and nothing that was said of an answer; expected rows with user, text"),
        ("user,text,score\nann,one,so-so\n", {}, "--word: found the category 'so-so'"),
        ("user,text,score\nann,one,1\n", {"names": ("stars",)}, "--score: found 'stars'"),
        ("user,text,score\nann,one,1,2\n", {}, "another number of cells than the header has"),
        ("user,text,score,time\nann,one,1,soon\n", {}, "row 1, column 'time': found 'soon'"),
    ],
)
def test_bad_files_are_one_line_and_store_nothing(journal, tmp_path, text, options, line):
    table = tmp_path / "said.csv"
    table.write_text(text)
    with pytest.raises(InputError) as caught:
        import_files(journal, [table], "csv", ImportOptions(**options))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(journal.people()) == []


def test_scores_of_several_names_are_asked_about(journal, written):
    scores = [
        {"id": name, "traceId": "t1", "name": name, "value": 1, "dataType": "NUMERIC", "source": "API"}
        for name in ("helpful", "polite")
    ]
    files = [written("traces.json", TRACES), written("scores.json", scores)]
    with pytest.raises(InputError, match=r"--score: found scores of several names \(helpful, polite\)"):
        import_files(journal, files, "langfuse")
    done = import_files(journal, files, "langfuse", ImportOptions(names=("polite",)))
    assert (done.labels, done.left_out) == ({"thumb": 1}, {"a score that was not asked for": 1})
    with pytest.raises(InputError, match="--from: found 'langfus'; expected 'langfuse'"):
        import_files(journal, files, "langfus")
