"""Files that are not as LaMP publishes them: one line that names file, row and field."""

import json

import pytest

from bestfor.data.sources.lamp import load_lamp
from bestfor.errors import InputError


def question(name="40", text="The fair was wet.", profile=(), **more):
    asked = f"Generate a headline for the following article: {text}"
    return {"id": name, "input": asked, "profile": list(profile), **more}


def item(name="410", text="The mayor spoke.", title="Mayor Speaks", **more):
    return {"text": text, "title": title, "id": name, **more}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "input": "x"}, "row 1, field 'profile': found nothing; expected a list of objects"),
        ({"id": "1", "input": "x", "profile": "y"}, "row 1, field 'profile': found a text; expected a list of objects"),
        ({"id": "1", "input": "x", "profile": [3]}, "row 1, field 'profile[0]': found a bare value"),
        ({"input": "x", "profile": []}, "row 1, field 'id': found nothing"),
        ({"id": "1", "profile": []}, "row 1, field 'input': found nothing; expected a text"),
        (question("1", profile=[item(), {"id": "2", "text": "a"}]), "row 1, profile[1], field 'title': found nothing"),
        (question("1", profile=[item(title=["a"])]), "row 1, profile[0], field 'title': found a list"),
        (question("1", profile=[item(title=True)]), "row 1, profile[0], field 'title': found true or false"),
        (question("1", profile=[item(date="May")]), "row 1, profile[0], field 'date': found 'May'"),
        (question("1", profile=[item(date="2012-13-01")]), "field 'date': found '2012-13-01'; expected a year, a date"),
        (question("1", profile=[], user_id={}), "row 1, field 'user_id': found an object"),
    ],
)
def test_errors_name_file_row_and_field(save, row, message):
    paths = save([row], {"1": "x"})
    with pytest.raises(InputError) as caught:
        load_lamp(*paths)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(paths[0]))


def test_half_a_surrogate_pair_is_named(save, tmp_path):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([question(text="\ud83d half")]))
    with pytest.raises(InputError, match="row 1, field 'input': found half of a surrogate pair"):
        load_lamp(path, task="LaMP_4")


def test_what_does_not_fit_together_is_named(save, tmp_path):
    questions, outputs = save([question("1"), question("1")])
    with pytest.raises(InputError, match="row 2, field 'id': found query '1' twice"):
        load_lamp(questions, outputs)
    with pytest.raises(InputError, match=r"dev_outputs.json: found no output of question '1'"):
        load_lamp(*save([question("1")], {"2": "x"}))
    outputs.write_text('{"task": "LaMP_4", "golds": [{"id": "1", "output": "a"}, {"id": "1", "output": "b"}]}')
    with pytest.raises(InputError, match="gold 2, field 'id': found '1' twice"):
        load_lamp(questions, outputs)
    outputs.write_text('{"task": "LaMP_9", "golds": []}')
    with pytest.raises(InputError, match="field 'task': found 'LaMP_9'; expected 'LaMP_"):
        load_lamp(questions, outputs)
    outputs.write_text("{")
    with pytest.raises(InputError, match="what cannot be read"):
        load_lamp(questions, outputs)
    with pytest.raises(InputError, match="found no file"):
        load_lamp(tmp_path / "none.json", task="LaMP_4")
    with pytest.raises(InputError, match="no questions"):
        load_lamp(*save([]), task="LaMP_4")
    (tmp_path / "odd.json").write_text(json.dumps([{"id": "1", "input": "What now?", "profile": []}]))
    with pytest.raises(InputError, match="found questions in no known wording; expected a task: one of LaMP_1"):
        load_lamp(tmp_path / "odd.json")
