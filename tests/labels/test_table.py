"""Tables of labels of every kind: what is read, what is refused, what rows sum up and what persons are made of."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bestfor as bf
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.data.split import SplitConfig, split_ratings
from bestfor.errors import InputError
from bestfor.labels.kinds import to_labels
from bestfor.labels.scale import LabelScale
from bestfor.labels.table import LabelOptions, load_labels

HEADER = "user,query,kind,text,over,value,weight,comment,texts"
ROWS = [
    "ann,say it,rating,one,,4,,,",
    "ann,say it,thumb,one,,yes,,,",
    "ann,say it,preference,two,one,,,,",
    "ann,say it,kept,two,,,,,",
    "ann,say it,dismissed,three,,,,,",
    'ann,say it,edit,the cat ran off,the cat sat,,,,"[""the dog"", ""the cat sat""]"',
    "ann,say it,comment,two,,,,too long,",
    'bob,say it,preference,,,,2,,"[""three"", ""two"", ""one""]"',
]


def written(folder, rows, header=HEADER, name="labels.csv"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def loaded(folder, rows, header=HEADER, **options):
    return load_labels(written(folder, rows, header), LabelOptions(**{"rating": (1, 5), **options}))


def ordered(said):
    return {user: (sorted(labels.rated), sorted(labels.preferred)) for user, labels in said.items()}


def utilities(ratings):
    names = zip(ratings.user, ratings.query, ratings.text, strict=True)
    keys = [(ratings.users[a], ratings.queries[b], ratings.texts[c]) for a, b, c in names]
    return dict(zip(keys, ratings.rating.tolist(), strict=True))


def test_every_kind_is_learned_as_a_service_learns_it(tmp_path):
    """The same things said to a service, exported and read as a table, and written by hand, are the same labels."""
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    from bestfor.rewards import Length
    from bestfor.serving import Service
    from bestfor.serving.export_tables import export_file

    model = Length().fit(bf.Candidates.of("x", "", ["a", "bb"], [0.0, 1.0]), rng=0)
    texts = ["the cat sat", "the dog"]
    scale = LabelScale(1.0, 5.0, (1, 5))
    with Service(model, tmp_path / "feedback.db", scale=scale) as service:
        for user, prompt, how in (
            ("ann", "say it", {"text": "one", "rating": 4}),
            ("ann", "say it", {"text": "one", "thumb": True}),
            ("ann", "say it", {"prefer": ["two", "one"]}),
            ("ann", "say it", {"text": "two", "kept": True}),
            ("ann", "say it", {"text": "three", "dismissed": True}),
            ("bob", "say it", {"prefer": ["three", "two", "one"]}),
            ("ann", "say it", {"text": "two", "comment": "too long"}),
        ):
            service.learn(user=user, prompt=prompt, **how)
        answer = service.answer("ann", "say it", texts, id="a")
        shown = answer.text
        service.learn("a", edit="the cat ran off")
        service.learn(user="ann", prompt="say it", text="gone", thumb=True, key="k")
        service.withdraw("k")
        lines = service.export("ann") + service.export("bob")
        for name in ("csv", "jsonl", "parquet"):
            export_file(service.journal, tmp_path / f"all.{name}", name)
    path = tmp_path / "export.jsonl"
    path.write_text(lines)
    exported = load_labels(path)
    by_hand = [row.replace("the cat sat,,,,", f"{shown},,,,") if ",edit," in row else row for row in ROWS]
    by_hand[-1] = by_hand[-1].replace(",,2,,", ",,,,")
    table = loaded(tmp_path, by_hand)
    assert ordered(exported.said) == ordered(table.said)
    assert utilities(exported) == pytest.approx(utilities(table))
    assert exported.remarks == table.remarks == (("ann", "say it", "two", "too long"),)
    assert any("1 labels were withdrawn" in note for note in exported.notes)
    for name in ("csv", "jsonl", "parquet"):
        dumped = load_labels(tmp_path / f"all.{name}")
        assert ordered(dumped.said) == ordered(exported.said)
        assert utilities(dumped) == pytest.approx(utilities(exported))
        assert dumped.remarks == exported.remarks


def test_a_text_has_the_mean_of_what_is_said_of_it_by_weight(tmp_path):
    found = utilities(loaded(tmp_path, ROWS))
    up, down = 4.0, 2.0
    assert found["ann", "say it", "one"] == pytest.approx((1.0 * 4 + 0.5 * up + 1.0 * down) / 2.5)
    assert found["ann", "say it", "two"] == pytest.approx(up)
    assert found["ann", "say it", "three"] == pytest.approx(down)
    # what a person wrote was no candidate
    assert ("ann", "say it", "the cat ran off") not in found
    # a ranking alone: the share of the others that each beats, between the thumbs
    assert [found["bob", "say it", text] for text in ("three", "two", "one")] == pytest.approx([4.0, 3.0, 2.0])


def test_the_order_of_rows_changes_nothing(tmp_path):
    first, second = (loaded(tmp_path, rows) for rows in (ROWS, ROWS[::-1]))
    assert utilities(first) == pytest.approx(utilities(second))
    assert ordered(first.said) == ordered(second.said)
    assert set(first.said) == {"ann", "bob"}


def test_formats_are_read_alike(tmp_path):
    expected = utilities(loaded(tmp_path, ROWS))
    rows = []
    for row in ROWS:
        cells = dict(zip(HEADER.split(","), next(csv.reader([row])), strict=True))
        cells["texts"] = json.loads(cells["texts"]) if cells["texts"] else None
        cells["value"] = {"": None, "yes": True}.get(cells["value"], cells["value"])
        cells["weight"] = float(cells["weight"]) if cells["weight"] else None
        rows.append({name: value or None for name, value in cells.items()})
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        row["value"] = None if row["value"] is None else str(row["value"])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    for name in ("labels.jsonl", "labels.parquet"):
        assert utilities(load_labels(tmp_path / name, LabelOptions(rating=(1, 5)))) == pytest.approx(expected)


def test_keys_scales_and_weights_of_rows(tmp_path):
    header = "user,kind,text,value,low,high,key,weight,time"
    rows = ["ann,rating,one,50,0,100,k,,2020", "ann,rating,two,2,1,5,l,0.5,2021", "ann,rating,one,100,0,100,k,,2022"]
    found = load_labels(written(tmp_path, rows, header))
    assert found.said["ann"] == Labels((Rated("", "two", 0.25, 0.5), Rated("", "one", 1.0)))
    assert found.timestamp is not None
    same = load_labels(written(tmp_path, ["ann,rating,one,50,0,100,k,,"], header))
    assert same.said["ann"].rated[0].utility == 50.0
    moved = loaded(tmp_path, ["ann,,rating,one,,5,,,"], worst=-1.0, best=1.0)
    assert moved.said["ann"].rated[0].utility == 1.0
    votes = loaded(tmp_path, ["ann,,thumb,one,,0,,,"], thumbs=(-1, 1), weights={"thumb": 1.0})
    assert votes.said["ann"].rated == (Rated("", "one", -1.0, 1.0),)
    renamed = written(tmp_path, ["ann,rating,one,4"], "who,kind,text,value")
    assert load_labels(renamed, LabelOptions(rating=(1, 5)), {"user": "who"}).users == ("ann",)


def test_texts_that_look_alike_are_one(tmp_path):
    found = loaded(tmp_path, ["ann,,rating,one  two,,5,,,", "ann,,preference,one two,three,,,,"])
    assert found.said["ann"] == Labels((Rated("", "one two", 5.0),), (Preferred("", "one two", "three"),))


BAD = [
    ("ann,,ratings,one,,4,,,", "row 1, column 'kind': found 'ratings'; expected 'rating'"),
    ("ann,,,one,,4,,,", "row 1, column 'kind': found an empty cell"),
    (",,rating,one,,4,,,", "column 'user': found an empty cell"),
    (
        "ann,,rating,,,4,,,",
        r"column 'text': found an empty cell; expected the text that is spoken of \(kind 'rating'\)",
    ),
    ("ann,,rating,one,,,,,", "column 'value': found an empty cell; expected a number"),
    ("ann,,rating,one,,yes,,,", "column 'value': found 'yes'; expected a number"),
    ("ann,,rating,one,,6,,,", "row 1, rating: found 6.0; expected a number from 1 to 5, the declared scale"),
    ("ann,,rating,one,,nan,,,", "column 'value': found an empty cell"),
    ("ann,,thumb,one,,,,,", "column 'value': found an empty cell; expected 1 or 0, which a thumb needs"),
    ("ann,,thumb,one,,3,,,", "column 'value': found '3'; expected 1 or 0, yes or no"),
    ("ann,,preference,one,,,,,", "column 'over': found an empty cell; expected the text that it is preferred to"),
    ("ann,,preference,one,one,,,,", "a text preferred to itself"),
    ('ann,,preference,,,,,,"[""one""]"', "row 1, prefer: found 1 texts"),
    ("ann,,preference,,,,,,one", "column 'texts': found 'one'; expected a list of texts"),
    ("ann,,edit,,one,,,,", "column 'text': found an empty cell; expected what the person finally wrote"),
    ("ann,,edit,final,,,,,", "column 'over': found an empty cell; expected the text that was shown"),
    ("ann,,kept,one,,0,,,", "column 'value': found 0; expected 1, or no row"),
    ("ann,,comment,,,,,,", "column 'text': found an empty cell"),
    ("ann,,thumb,one,,1,-1,,", "column 'weight': found -1"),
    ("ann,,thumb,one,,1,much,,", "column 'weight': found 'much'; expected a number"),
    ("ann,,comment,one,,,,nice,", "no label that anything is learned from"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[row for row, _ in BAD])
def test_a_row_that_lacks_what_its_kind_needs_is_one_line(tmp_path, row, message):
    with pytest.raises(InputError, match=message) as raised:
        loaded(tmp_path, [row])
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "labels.csv") in str(raised.value)


def test_ratings_need_a_declared_scale_and_columns_known_roles(tmp_path):
    path = written(tmp_path, ROWS)
    with pytest.raises(InputError, match=r"row 1: found a rating on no declared scale; expected rating = \[1, 5\]"):
        load_labels(path)
    with pytest.raises(InputError, match="unknown role 'usre'; expected 'user'"):
        load_labels(path, None, {"usre": "x"})
    with pytest.raises(InputError, match="no column 'kind'"):
        load_labels(written(tmp_path, ["ann,one,3"], "user,text,rating"))
    with pytest.raises(InputError, match="column 'high': found an empty cell; expected both ends"):
        load_labels(written(tmp_path, ["ann,rating,one,3,1"], "user,kind,text,value,low"))
    with pytest.raises(InputError, match="column 'low': found 5 to 1"):
        load_labels(written(tmp_path, ["ann,rating,one,3,5,1"], "user,kind,text,value,low,high"))
    with pytest.raises(InputError, match="rougeX"):
        loaded(tmp_path, ROWS, metric="rougeX")


def test_an_export_that_is_not_whole_is_one_line(tmp_path):
    path = tmp_path / "export.jsonl"
    for lines, message in (
        ('{"type": "label", "key": "k"}', "row 1: found an incomplete line"),
        ('{"type": "person", "tenant": ""}\n{"type": "smile"}', "row 2: found a line of type 'smile'"),
        ('{"type": "person", "tenant": ""}\n{"type": "person", "tenant": "a"}', "labels of 2 tenants"),
        ('{"type": "person", "tenant": ""}\n{"type"', "row 2: found what is not JSON"),
    ):
        path.write_text(lines + "\n")
        with pytest.raises(InputError, match=message) as raised:
            load_labels(path)
        assert "\n" not in str(raised.value)


def test_labels_of_hashed_texts_and_of_later_kinds_are_counted(tmp_path):
    known = {"type": "label", "user": "ann", "texts": ["one"], "value": 1.0, "weight": 0.5}
    rows = [
        {**known, "key": "a", "kind": "thumb"},
        {**known, "key": "b", "kind": "thumb", "hashed": True},
        {**known, "key": "c", "kind": "smile", "later": 1},
    ]
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_labels(path)
    assert len(found.said["ann"]) == 1
    assert any("1 labels are of texts that the journal holds as hashes" in note for note in found.notes)
    assert any("1 labels are of kinds that this version does not know" in note for note in found.notes)


def test_nothing_that_is_said_of_the_test_part_is_in_the_fit_part(tmp_path):
    draw = np.random.default_rng(0)
    texts = [f"text {place}" for place in range(60)]
    rows = []
    for user in range(4):
        for text in texts:
            rows.append(f"u{user},,rating,{text},,{draw.integers(1, 6)},,,")
            other = texts[int(draw.integers(60))]
            rows += [f"u{user},,preference,{text},{other},,,,"] if other != text else []
    ratings = loaded(tmp_path, rows)
    data = split_ratings(ratings, SplitConfig("text", 0, 5, 5))
    parts = data.coded
    tested = {parts.test.texts[code] for code in parts.test.text}
    said = parts.fit.said
    assert parts.test.said is None
    assert sum(map(len, said.values())) < sum(map(len, ratings.said.values()))
    for labels in said.values():
        spoken = {one.text for one in labels.rated} | {t for two in labels.preferred for t in (two.better, two.worse)}
        assert spoken
        assert not spoken & tested
    assert any("speak of texts of the test part" in note for note in data.notes)


def test_a_label_is_learned_as_the_journal_says(tmp_path):
    """The records of a table's rows are those of ``to_labels`` for the same stored labels."""
    from bestfor.labels.rows import read_labels

    path, scale = written(tmp_path, ROWS), LabelScale(1.0, 5.0, (1, 5))
    read = read_labels(path, scale, {}, declared=True)
    expected, missing = to_labels([one for one in read.said if one[0].user == "ann"], scale)
    found = load_labels(path, LabelOptions(rating=(1, 5))).said["ann"]
    assert missing == 0
    assert found == replace(expected)
