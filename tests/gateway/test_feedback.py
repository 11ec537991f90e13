"""What people say counts for the very next answer, once, and can be changed, withdrawn, exported and removed."""

import re
import sqlite3
import time
from contextlib import closing

from bestfor.gateway.keys import KeyFile
from bestfor.gateway.links import AnswerLink, sign, verify
from support.gateways import writes

TEXTS = ("red fish", "blue bird", "old cat")


def asked(gateway, user="eve"):
    return gateway.ask(user, bestfor={"n": 3, "rule": "best"}).json()["bestfor"]


def rewards(gateway, user="eve"):
    return asked(gateway, user)["rewards"]


KINDS = [
    ({"kind": "thumb", "value": True, "text": "blue bird"}, 1),
    ({"kind": "rating", "value": 0.9, "text": "blue bird"}, 1),
    ({"kind": "preference", "value": 2, "over": 0}, 2),
    ({"kind": "preference", "value": "blue bird", "over": "red fish"}, 1),
    ({"kind": "preference", "value": [2, 1, 0]}, 2),
    ({"kind": "kept", "text": "old cat"}, 2),
]


def test_every_kind_counts_for_the_very_next_answer(serve):
    gateway = serve(writes(*TEXTS))
    for place, (body, best) in enumerate(KINDS):
        own = asked(gateway, f"u{place}")
        assert own["rewards"] == [0, 0, 0]
        receipt = gateway.learn(own["answer_id"], **body)
        assert (receipt.status_code, receipt.json()["status"]) == (201, "new")
        after = asked(gateway, f"u{place}")
        assert after["rewards"].index(max(after["rewards"])) == best
        assert after["served"] == "own"
    assert rewards(gateway, "other") == [0, 0, 0]


def test_an_edit_counts_for_what_resembles_it(serve):
    gateway = serve(writes(*TEXTS))
    gateway.learn(asked(gateway)["answer_id"], "edit", text="blue bird sings")
    assert rewards(gateway) != [0, 0, 0]


def test_comments_and_dismissals_are_kept(serve):
    gateway = serve(writes(*TEXTS))
    own = asked(gateway)
    assert gateway.learn(own["answer_id"], "comment", text="too short").json()["status"] == "new"
    assert gateway.learn(own["answer_id"], "dismissed").json()["status"] == "new"


def test_bare_texts_are_learned_from_without_an_answer(serve):
    gateway = serve(writes(*TEXTS))
    body = {"kind": "rating", "value": 1, "user": "eve", "prompt": "an animal", "text": "old cat"}
    assert gateway.http.post("/v1/feedback", json=body).status_code == 201
    assert gateway.text("eve") == "old cat"


def test_a_key_counts_once_changes_and_is_withdrawn_for_good(serve):
    gateway = serve(writes(*TEXTS))
    answer = asked(gateway)["answer_id"]

    def say(value, **how):
        body = {"answer_id": answer, "kind": "rating", "value": value, "text": "old cat"}
        return gateway.http.post("/v1/feedback", json=body, **how)

    key = {"headers": {"Idempotency-Key": "evt/1 ä".encode()}}
    assert [say(1.0, **key).json()["status"] for _ in range(3)] == ["new", "same", "same"]
    once = rewards(gateway)
    assert once[2] > 0
    path = "/v1/feedback/evt%2F1%20%C3%A4"
    changed = gateway.http.patch(path, json={"value": 0.5})
    assert (changed.status_code, changed.json()["status"]) == (200, "changed")
    assert 0 < rewards(gateway)[2] < once[2]
    assert gateway.http.patch(path, json={"kind": "thumb", "value": True}).json()["error"]["param"] == "kind"
    assert gateway.http.delete(path).json()["status"] == "withdrawn"
    assert rewards(gateway) == [0, 0, 0]
    assert gateway.http.delete(path).status_code == 404
    assert gateway.http.patch(path, json={"value": 1}).status_code == 404
    assert say(1.0, **key).json()["status"] == "withdrawn"


def test_keys_of_body_and_header_must_agree(serve):
    gateway = serve(writes(*TEXTS))
    body = {"answer_id": asked(gateway)["answer_id"], "kind": "thumb", "value": True, "key": "a"}
    refused = gateway.http.post("/v1/feedback", json=body, headers={"Idempotency-Key": "b"})
    assert refused.json()["error"]["param"] == "Idempotency-Key"


WRONG = [
    ({"kind": "thump", "value": True}, 400, "kind"),
    ({"value": True}, 400, "kind"),
    ({"kind": "thumb"}, 400, "value"),
    ({"kind": "thumb", "value": 0.5}, 400, "value"),
    ({"kind": "rating", "value": 2}, 400, "value"),
    ({"kind": "rating", "value": "good"}, 400, "value"),
    ({"kind": "edit", "value": 1}, 400, "value"),
    ({"kind": "edit"}, 400, "text"),
    ({"kind": "preference", "value": 9, "over": 0}, 400, "value"),
    ({"kind": "preference", "value": 1, "over": 1}, 400, "value"),
    ({"kind": "rating", "value": 1, "over": 1}, 400, "over"),
    ({"kind": "kept", "value": False}, 400, "value"),
    ({"kind": "thumb", "value": True, "kye": "x"}, 400, "kye"),
    ({"kind": "thumb", "value": True, "answer_id": "nope"}, 404, "answer_id"),
    ({"kind": "thumb", "value": True, "answer_id": None}, 400, "user"),
    ({"kind": "thumb", "value": True, "user": "other"}, 400, "user"),
    ({"kind": "thumb", "value": True, "user": "a\x1eb"}, 400, "user"),
]


def test_what_is_wrong_is_named_and_nothing_is_kept(serve):
    gateway = serve(writes(*TEXTS))
    answer = asked(gateway)["answer_id"]
    for body, status, param in WRONG:
        refused = gateway.http.post("/v1/feedback", json={"answer_id": answer, **body})
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), (body, refused.text)
    assert rewards(gateway) == [0, 0, 0]


def test_two_gateways_of_one_journal_see_each_other_at_once(serve):
    one, other = serve(writes(*TEXTS)), serve(writes(*TEXTS))
    answer = asked(one)["answer_id"]
    assert rewards(other) == [0, 0, 0]
    other.learn(answer, "rating", value=1, text="old cat")
    assert one.text("eve") == "old cat"
    assert other.http.delete("/v1/users/eve").json()["labels"] == 1
    assert rewards(one) == [0, 0, 0]


def test_signed_links_count_by_their_form_alone(serve):
    gateway = serve(writes("old cat"))
    own = gateway.ask("eve", bestfor={"n": 1}).json()["bestfor"]
    shown = gateway.http.get(own["feedback_url"])
    assert shown.status_code == 200
    assert "old cat" in shown.text
    assert rewards(gateway)[0] == 0
    assert gateway.http.post(own["feedback_url"], data={"thumb": "yes"}).status_code == 200
    assert rewards(gateway)[0] > 0
    assert gateway.http.post(own["feedback_url"], data={"thumb": "no"}).status_code == 200
    people = gateway.http.get("/v1/users/eve").json()
    assert people["labels"] == {"thumb": 1}
    assert gateway.http.post(own["feedback_url"], data={"thumb": "maybe"}).status_code == 400
    token = own["feedback_url"].rpartition("/")[2]
    for forged in (token[:-2] + "AA", "x" + token, token.partition(".")[0], "a.b", "." * 9):
        assert gateway.http.get(f"/f/{forged}").status_code == 404
        assert gateway.http.post(f"/f/{forged}", data={"thumb": "yes"}).status_code == 404


def test_pages_of_links_escape_what_was_written(serve):
    gateway = serve(writes("<script>alert(1)</script>"))
    own = gateway.ask("eve", bestfor={"n": 1}).json()["bestfor"]
    page = gateway.http.get(own["feedback_url"]).text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_links_expire_and_end_with_their_secret(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("", "client")
    token = sign(AnswerLink("t", "a", 1000), keys.ring())
    assert verify(token, keys.ring(), 999) == AnswerLink("t", "a", 1000)
    assert verify(token, keys.ring(), 1000) is None
    keys.rotate(keep=True)
    assert verify(token, keys.ring(), 999) is not None
    keys.rotate()
    assert verify(token, keys.ring(), 999) is None


def test_links_hold_after_a_restart_where_there_is_a_file(tmp_path):
    KeyFile(tmp_path / "keys.json").rotate()
    token = sign(AnswerLink("", "a", 1000), KeyFile(tmp_path / "keys.json").ring())
    assert verify(token, KeyFile(tmp_path / "keys.json").ring(), 1) is not None
    assert verify(token, KeyFile(tmp_path / "other.json").ring(), 1) is None


def test_ask_shows_two_and_their_preference_counts(serve):
    gateway = serve(writes(*TEXTS))
    question = gateway.http.post("/v1/ask", json={"user": "eve", "prompt": "an animal", "texts": list(TEXTS)}).json()
    first, second = question["pair"]
    assert {first["text"], second["text"]} < set(TEXTS)
    assert [TEXTS[one["index"]] for one in question["pair"]] == [first["text"], second["text"]]
    said = {"user": "eve", "prompt": "an animal", "value": second["text"], "over": first["text"]}
    assert gateway.learn(None, "preference", **said).status_code == 201
    after = rewards(gateway)
    assert after[second["index"]] > after[first["index"]]
    for body, param in (
        ({"user": "eve", "texts": ["a"]}, "texts"),
        ({"user": "eve", "texts": ["a", "a"]}, "texts"),
        ({"user": "", "texts": ["a", "b"]}, "user"),
        ({"user": "eve", "texts": ["a", "b"], "rule": "best"}, "rule"),
    ):
        refused = gateway.http.post("/v1/ask", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_rerank_has_the_shape_that_jina_and_cohere_clients_read(serve):
    gateway = serve(writes(*TEXTS))
    documents = ["red fish", {"text": "ann-word"}, "red fish"]
    body = {"model": "m", "query": "an animal", "documents": documents, "user": "ann", "top_n": 2}
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        answer = gateway.http.post(path, json={**body, "return_documents": True}).json()
        best = {"index": 1, "relevance_score": 1.0, "document": {"text": "ann-word"}}
        assert answer["results"] == [best, {"index": 0, "relevance_score": 0.0, "document": {"text": "red fish"}}]
        assert answer["model"] == "m"
    assert gateway.learn(answer["bestfor"]["answer_id"], value=False, text="ann-word").status_code == 201
    ordered = gateway.http.post("/v1/rerank", json=body).json()["results"]
    assert [set(one) for one in ordered] == [{"index", "relevance_score"}] * 2
    nobody = gateway.http.post("/v1/rerank", json={**body, "user": None}).json()["bestfor"]
    assert (nobody["user"], nobody["served"]) == (None, "everybody")
    for wrong, param in (
        ({"documents": []}, "documents"),
        ({"documents": [5]}, "documents.0"),
        ({"top_n": 0}, "top_n"),
    ):
        refused = gateway.http.post("/v1/rerank", json={**body, **wrong})
        assert (refused.status_code, refused.json()["error"]["param"].split(".")[0]) == (400, param.split(".")[0])


def test_a_person_is_shown_exported_and_removed_without_a_trace(serve):
    gateway = serve(writes("old cat", "secret7f3a"))
    answer = asked(gateway, "eve/1")["answer_id"]
    gateway.learn(answer, "comment", text="words8b1d of mine")
    gateway.learn(answer, value=True)
    known = gateway.http.get("/v1/users/eve/1").json()
    assert (known["labels"], known["answers"], known["forgotten"]) == ({"comment": 1, "thumb": 1}, 1, False)
    lines = gateway.http.get("/v1/users/eve/1/export").text.splitlines()
    assert len(lines) == 4
    assert "words8b1d" in "".join(lines)
    gone = gateway.http.delete("/v1/users/eve/1").json()
    assert (gone["answers"], gone["labels"], gone["wiped"]) == (1, 2, True)
    assert gateway.http.get("/v1/users/eve/1").json()["forgotten"] is True
    assert gateway.http.get("/v1/users/nobody").status_code == 404
    gateway.stop()
    with closing(sqlite3.connect(gateway.journal)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open(gateway.journal, "rb") as file:
        data = file.read()
    assert not re.search(rb"secret7f3a|words8b1d|eve/1", data)


def test_links_of_an_answer_that_is_gone_say_so(serve):
    gateway = serve(writes("old cat"))
    url = gateway.ask("eve", bestfor={"n": 1}).json()["bestfor"]["feedback_url"]
    gateway.http.delete("/v1/users/eve")
    assert gateway.http.get(url).status_code == 404
    assert gateway.http.post(url, data={"thumb": "yes"}).status_code == 404


def test_links_hold_for_the_days_that_are_configured(serve):
    gateway = serve(writes("old cat"), links={"days": 2, "public_url": "https://people.example/x/"})
    url = gateway.ask("eve", bestfor={"n": 1}).json()["bestfor"]["feedback_url"]
    assert url.startswith("https://people.example/x/f/")
    link = verify(url.rpartition("/")[2], gateway.app.state.gateway.access.ring, time.time())
    assert 0 < link.expires - time.time() - 86_400 < 86_401


def test_feedback_without_a_key_is_named_by_its_place(serve):
    gateway = serve(writes(*TEXTS))
    first, second = asked(gateway, "ann")["answer_id"], asked(gateway, "ben")["answer_id"]
    keys = [gateway.learn(one, value=True).json()["key"] for one in (first, second)]
    assert len(set(keys)) == 2
    assert all(keys)
