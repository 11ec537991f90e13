import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.data.read.arrays import read_array
from bestfor.errors import InputError

SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=40)
@given(
    st.lists(st.dictionaries(st.text(), VALUE, max_size=4), max_size=8),
    st.integers(1, 60),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_whatever_the_chunk_the_rows_are_those_of_json(tmp_path_factory, rows, chunk, indent, escaped):
    path = tmp_path_factory.mktemp("array") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=escaped), encoding="utf-8", errors="surrogatepass")
    if escaped or not any("\ud800" <= letter <= "\udfff" for letter in path.read_text("utf-8", "surrogatepass")):
        assert list(read_array(path, chunk)) == list(enumerate(rows, start=1))
    else:
        with pytest.raises(InputError, match="JSON file in UTF-8"):
            list(read_array(path, chunk))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file; expected an array of objects"),
        ('{"id": 1}', "found '{' at its beginning"),
        ('[{"id": 1} {"id": 2}]', "row 1: found '{' after the object"),
        ('[{"id": 1}, 2]', "row 2: found '2'"),
        ('[{"id": 1}, {"id": }]', "row 2: found what is not JSON"),
        ('[{"id": 1}, {"id": "' + "x" * 99, "row 2: found what is not JSON"),
        ('[{"id": 1},', "row 2: found the end of the file"),
        ('[{"id": 1}', "row 1: found the end of the file"),
        ('[{"id": 1}] []', "row 1: found more after the array"),
        ('[{"id": ' + "[" * 90_000, "row 1: found what is nested too deeply"),
    ],
)
def test_a_broken_file_names_the_row(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(read_array(path, 8))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_an_error_in_the_middle_is_found_without_reading_on(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"b" 2}' + ', {"c": 3}' * 100_000 + "]")
    rows = read_array(path, 64)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(InputError, match="row 2: found what is not JSON \\(Expecting ':'"):
        next(rows)


def test_packed_and_marked_files_are_read(tmp_path):
    packed, marked = tmp_path / "rows.json.gz", tmp_path / "rows.json"
    with gzip.open(packed, "wt", encoding="utf-8") as handle:
        handle.write('[{"a": "ä"}]')
    marked.write_text('[{"a": "ä"}]', encoding="utf-8-sig")
    assert list(read_array(packed)) == list(read_array(marked)) == [(1, {"a": "ä"})]
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(InputError, match="what cannot be read"):
        list(read_array(packed))
    with pytest.raises(InputError, match="found no file"):
        list(read_array(tmp_path / "none.json"))
