"""Rows in the shapes of LongLaMP's files, small ones written here."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.sources.longlamp import load_longlamp
from bestfor.errors import InputError

ROWS = {
    "abstract_generation": {
        "name": "A. Author",
        "input": 'Generate an abstract for the title "Nets" using the following items: 1. depth\n2. width\n',
        "output": "We study nets.",
        "profile": [{"abstract": "We study trees.", "id": "p1", "title": "Trees", "year": 2011}],
    },
    "topic_writing": {
        "author": "someone",
        "input": "Generate the content for a reddit post my dog ran away",
        "output": "So today my dog ran away ...",
        "profile": [{"author": "someone", "content": "Long ago ...", "id": "c1", "summary": "a long time"}],
    },
    "product_review": {
        "reviewerId": "R1",
        "input": 'Generate the review text written by a reviewer who has a given an overall rating of "5.0" for a '
        'product with description "A cup". The summary of the review text is "Fine".',
        "output": "It is a fine cup.",
        "profile": [{"description": "A pan", "overall": "1.0", "reviewText": "It bent.", "summary": "Bad"}],
    },
    "email_generation": {
        "author": "e1",
        "input": "Complete the text of the following email. title: Lunch. text: Dear all, lunch",
        "output": "is at noon.",
        "profile": [{"title": "Report", "text": "The report is late.", "id": "m1"}],
    },
}
EXPECTED = {
    "abstract_generation": (
        "title: Nets\nitems: 1. depth\n2. width",
        "p1",
        "title: Trees",
        "We study trees.",
        1293840000,
    ),
    "topic_writing": ("my dog ran away", "c1", "a long time", "Long ago ...", None),
    "product_review": (
        "rating: 5.0\nproduct: A cup\nsummary: Fine",
        "0",
        "rating: 1.0\nproduct: A pan\nsummary: Bad",
        "It bent.",
        None,
    ),
    "email_generation": ("title: Lunch\ntext: Dear all, lunch", "m1", "title: Report", "The report is late.", None),
}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("task", sorted(ROWS))
@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".json"])
def test_every_task_from_every_kind_of_file(tmp_path, task, ending):
    row = ROWS[task]
    path = write(tmp_path / f"test{ending}", [row])
    data = load_longlamp(path, task=f"{task}_user")
    asked, name, item_input, item_output, when = EXPECTED[task]
    user = row.get("name") or row.get("author") or row.get("reviewerId")
    assert data.queries.to_pylist() == [
        {
            "query_id": "test-000000",
            "user_id": user,
            "input": asked,
            "reference": row["output"],
            "split": "test",
            "timestamp": None,
        }
    ]
    assert data.histories.to_pylist() == [
        {"user_id": user, "item_id": name, "input": item_input, "output": item_output, "timestamp": when}
    ]
    if task != "email_generation":
        assert load_longlamp(path).task == task, "the fields of the first row say what it is"


def test_a_folder_as_the_hub_lays_it_out(tmp_path):
    user, temporal = tmp_path / "product_review_user", tmp_path / "product_review_temporal"
    row = ROWS["product_review"]
    write(user / "test-00000-of-00002.parquet", [row, {**row, "reviewerId": "R2"}])
    write(user / "test-00001-of-00002.parquet", [{**row, "reviewerId": "R3"}])
    write(user / "train-00000-of-00001.parquet", [{**row, "reviewerId": "R4"}])
    write(temporal / "test-00000-of-00001.parquet", [{**row, "reviewerId": "R5"}])
    data = load_longlamp(tmp_path, task="product_review")
    assert data.queries["query_id"].to_pylist() == [
        "test-00000-of-00002-000000",
        "test-00000-of-00002-000001",
        "test-00001-of-00002-000000",
    ]
    assert data.queries["user_id"].to_pylist() == ["R1", "R2", "R3"]
    assert load_longlamp(tmp_path, task="product_review_temporal").queries["user_id"].to_pylist() == ["R5"]
    assert load_longlamp(user, split="train").queries["user_id"].to_pylist() == ["R4"]
    assert load_longlamp(tmp_path, task="product_review", users=2).queries["user_id"].to_pylist() == ["R1", "R2"]
    with pytest.raises(InputError, match="no file whose name begins with 'val'"):
        load_longlamp(user, split="val")


def test_lists_of_structures_may_be_stored_as_structures_of_lists(tmp_path):
    row = ROWS["topic_writing"]
    turned = {key: [item[key] for item in row["profile"]] for key in row["profile"][0]}
    path = write(tmp_path / "test.parquet", [{**row, "profile": turned}])
    assert load_longlamp(path).histories["output"].to_pylist() == ["Long ago ..."]
    uneven = write(tmp_path / "uneven.json", [{**row, "profile": {"content": ["a", "b"], "summary": ["a"]}}])
    with pytest.raises(InputError, match="field 'profile': found lists of different lengths"):
        load_longlamp(uneven)


def test_rows_of_one_user_are_merged(tmp_path):
    row = ROWS["topic_writing"]
    second = {**row, "profile": [*row["profile"], {"content": "More", "summary": "m", "id": "c2", "author": "someone"}]}
    data = load_longlamp(write(tmp_path / "test.jsonl", [row, second]))
    assert data.histories["item_id"].to_pylist() == ["c1", "c2"]
    assert data.queries["user_id"].to_pylist() == ["someone"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": None}, "row 1, field 'profile': found nothing"),
        ({"input": None}, "row 1, field 'input': found nothing"),
        ({"reviewerId": 3.5, "profile": [{"overall": "5"}]}, "row 1, profile[0], field 'description': found nothing"),
    ],
)
def test_errors_name_file_row_and_field(tmp_path, change, message):
    path = write(tmp_path / "test.json", [{**ROWS["product_review"], **change}])
    with pytest.raises(InputError) as caught:
        load_longlamp(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_what_is_no_such_data_is_named(tmp_path):
    with pytest.raises(InputError, match="found no file; expected a file, a folder, or the name of a data set"):
        load_longlamp(tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"found a file ending in '\.csv'"):
        load_longlamp(write(tmp_path / "rows.csv", []))
    with pytest.raises(InputError, match="no field of any task's user"):
        load_longlamp(write(tmp_path / "odd.json", [{"input": "x"}]))
    with pytest.raises(InputError, match="found no rows"):
        load_longlamp(write(tmp_path / "empty.json", []))
    with pytest.raises(InputError, match="task: found 'poem'"):
        load_longlamp(write(tmp_path / "odd.json", [{}]), task="poem")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"torn\.parquet: found what cannot be read"):
        load_longlamp(tmp_path / "torn.parquet", task="topic_writing")
    (tmp_path / "torn.jsonl").write_text('{"author": "a", "input"\n')
    with pytest.raises(InputError, match=r"torn\.jsonl, row 1: found what is not JSON"):
        load_longlamp(tmp_path / "torn.jsonl", task="topic_writing")


HUB = """
import sys
from bestfor.data.sources.longlamp import load_longlamp
from bestfor.errors import BestforError
try:
    load_longlamp("LongLaMP/LongLaMP", task=sys.argv[1] or None)
except BestforError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("product_review", "hf download --repo-type dataset LongLaMP/LongLaMP --include"),
        ("", "found no task; expected one of abstract_generation_user, abstract_generation_temporal"),
    ],
)
def test_the_hub_without_a_network_says_what_to_do(tmp_path, monkeypatch, task, said):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", HUB, task], capture_output=True, text=True)
    assert said in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_the_hubs_local_copy_is_read(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    write(tmp_path / "topic_writing_user" / "test-00000-of-00001.parquet", [ROWS["topic_writing"]])
    wanted = []

    def snapshot(name, **kwargs):
        wanted.append((name, kwargs))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert load_longlamp("LongLaMP/LongLaMP", task="topic_writing_user").queries.num_rows == 1
    patterns = ["topic_writing_user/test-*.parquet"]
    assert wanted == [("LongLaMP/LongLaMP", {"repo_type": "dataset", "allow_patterns": patterns})]
