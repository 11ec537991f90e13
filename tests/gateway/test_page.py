"""The page at /: who may see it, what it shows, its forms; everything escaped, figures those of the journal."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from bestfor.gateway.keys import KeyFile
from bestfor.gateway.page.session import COOKIE
from bestfor.rng import derive
from bestfor.serving.export_tables import FORMATS, export_file
from bestfor.serving.journal import Journal
from support.gateways import writes
from support.servers import error

HOSTILE = '<script>document.title="owned"</script>"\'&<img src=x onerror=alert(1)>'


def token_of(page):
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


def asked(gateway, first="ann", second="ben", prompt="an animal", **more):
    token = token_of(gateway.http.get("/playground"))
    form = {"csrf": token, "prompt": prompt, "first": first, "second": second, "n": "8", **more}
    return gateway.http.post("/playground", data=form)


def picks(page):
    return re.findall(r'<blockquote class="pick">([^<]*)</blockquote>', page.text)


def test_the_playground_picks_from_the_same_candidates_and_a_thumb_changes_the_next(serve):
    gateway = serve()
    page = asked(gateway)
    assert page.status_code == 200
    assert picks(page) == ["ann-word here", "ben-word here"]
    answers = re.findall(r'name="answer" value="([^"]+)"', page.text)[::2]
    again = re.search(r'name="again" value="([^"]+)"', page.text)[1]
    assert again.split() == answers
    with Journal(gateway.journal) as journal:
        logged = [journal.answer("", id) for id in answers]
    assert logged[0].texts == logged[1].texts
    form = {"csrf": token_of(page), "answer": answers[0], "again": again, "first": "ann", "second": "ben"}
    page = gateway.http.post("/page/feedback", data={**form, "edit": "blue fish"})
    found = picks(page)
    assert found[0] == "blue fish"
    assert found[1] == "ben-word here"
    assert "another pick than before" in page.text
    assert page.text.count("another pick than before") == 1


def test_figures_are_those_of_the_journal(serve):
    gateway = serve()
    ids = {}
    for number in range(12):
        user = f"p{number % 4}"
        ids.setdefault(user, []).append(gateway.ask(user).json()["bestfor"]["answer_id"])
        gateway.learn(ids[user][-1], value=number % 3 == 0)
    gateway.ask()
    page = gateway.http.get("/")
    assert "People: 5, answers: 13, labels: 12" in page.text
    rows = dict(re.findall(r'<th scope="row"><a[^>]*>(p\d)</a></th>(.*?)</tr>', page.text, re.S))
    assert sorted(rows) == ["p0", "p1", "p2", "p3"]
    for user, row in rows.items():
        known = gateway.http.get(f"/v1/users/{user}").json()
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)
        assert (cells[0], cells[1], cells[2]) == ("3", "3 thumb", "3")
        assert float(cells[3]) == pytest.approx(known["expected_gain"], abs=6e-4)
        assert known["labels"] == {"thumb": 3}
    assert "(no user)" in page.text
    one = gateway.http.get("/", params={"user": "p0"})
    assert one.text.count("<article") == 3
    assert gateway.http.get("/", params={"like": "p1"}).text.count('<th scope="row"') == 1


def test_thumbs_edits_and_removal_by_form(serve):
    gateway = serve()
    id = gateway.ask("ann").json()["bestfor"]["answer_id"]
    page = gateway.http.get("/")
    token = token_of(page)
    form = {"csrf": token, "answer": id, "edit": "a better animal", "back": "/?user=ann"}
    done = gateway.http.post("/page/feedback", data=form)
    assert (done.status_code, done.headers["location"]) == (303, f"/?user=ann#a{id}")
    assert "wrote: a better animal" in gateway.http.get("/", params={"user": "ann"}).text
    elsewhere = gateway.http.post("/page/feedback", data={**form, "back": "https://elsewhere.example/"})
    assert elsewhere.headers["location"].startswith("/#a")
    empty = gateway.http.post("/page/feedback", data={**form, "edit": " "})
    assert "edit: found no text" in empty.text
    gone = gateway.http.post("/page/forget", data={"csrf": token, "user": "ann"})
    assert "Removed 1 answers and 1 labels of ann." in gone.text
    assert "a better animal" not in gateway.http.get("/").text
    assert gateway.http.get("/v1/users/nobody").status_code == 404


def test_everything_is_escaped(serve):
    gateway = serve(writes(HOSTILE, "plain"))
    page = asked(gateway, first=HOSTILE, second="ben", prompt=HOSTILE)
    shown = gateway.http.get("/")
    person = gateway.http.get("/", params={"user": HOSTILE})
    found = gateway.http.get("/", params={"like": HOSTILE})
    for one in (page, shown, person, found):
        assert one.status_code == 200
        assert "<script>" not in one.text
        assert "<img" not in one.text
        assert re.findall(r"<script[^>]*>", one.text) == ['<script src="/page/script.js" defer>']
    assert page.text.count("&lt;script&gt;") > 3


def test_no_form_of_another_page_counts(serve):
    gateway = serve()
    id = gateway.ask("ann").json()["bestfor"]["answer_id"]
    page = gateway.http.get("/")
    forms = {
        "/page/feedback": {"answer": id, "thumb": "yes"},
        "/page/forget": {"user": "ann"},
        "/playground": {"prompt": "x", "first": "a", "second": "b", "n": "2"},
    }
    for path, form in forms.items():
        for csrf in ({}, {"csrf": "guess"}, {"csrf": token_of(page)[:-2] + "xx"}):
            assert gateway.http.post(path, data={**form, **csrf}).status_code == 403
    token = token_of(page)
    gateway.http.cookies.clear()
    assert gateway.http.post("/page/forget", data={"user": "ann", "csrf": token}).status_code == 403
    assert "answers: 1, labels: 0" in gateway.http.get("/").text
    foreign = gateway.http.get("/", headers={"Host": "evil.example"})
    assert foreign.status_code == 403


def test_headers_forbid_what_a_page_does_not_need(serve):
    gateway = serve()
    for path in ("/", "/playground"):
        headers = gateway.http.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
    gateway.http.cookies.clear()
    cookie = gateway.http.get("/").headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert gateway.http.get("/page/style.css").headers["content-type"].startswith("text/css")
    assert gateway.http.get("/page/base.html.j2").status_code == 404


def test_with_keys_the_page_wants_an_admin_key_and_shows_its_tenant_alone(serve, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    admin, text = keys.add("acme", "admin")
    _, other = keys.add("other", "client")
    gateway = serve(keys=str(tmp_path / "keys.json"))
    gateway.http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "secret of other"}]},
        headers={"Authorization": f"Bearer {other}", "X-Bestfor-User": "olga"},
    )
    assert "Admin key" in gateway.http.get("/").text
    assert "olga" not in gateway.http.get("/").text
    assert gateway.http.post("/page/login", data={"key": "sk-wrong"}).status_code == 403
    assert gateway.http.post("/page/login", data={"key": other}).status_code == 403
    entered = gateway.http.post("/page/login", data={"key": text})
    assert entered.status_code == 303
    assert text not in json.dumps(dict(entered.headers))
    page = gateway.http.get("/")
    assert "tenant acme" in page.text
    assert "olga" not in page.text
    page = asked(gateway)
    assert picks(page)
    keys.revoke(admin.id)
    assert "Admin key" in gateway.http.get("/").text
    assert gateway.http.post("/playground", data={"csrf": token_of(page)}).status_code == 401


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n": "0"}, "n: expected a number from 1 to 64"),
        ({"n": "many"}, "n: expected a number from 1 to 64"),
        ({"prompt": " "}, "prompt: expected something to ask"),
        ({"first": ""}, "first: "),
        ({"second": ""}, "second: "),
    ],
)
def test_wrong_fields_are_said_on_the_page(serve, fields, said):
    page = asked(serve(), **fields)
    assert page.status_code == 200
    assert said in page.text
    assert 'role="status"' in page.text


def test_an_upstream_that_fails_is_said_on_the_page(serve):
    page = asked(serve(lambda request: error(500, "no room <here>")))
    assert page.status_code == 200
    assert re.search(r'role="status">[^<]*no room &lt;here&gt;', page.text)


@pytest.mark.slow
def test_figures_of_twenty_people_and_two_hundred_labels_are_those_of_the_journal(serve):
    gateway = serve()
    draw = derive(0, "twenty people")
    given = Counter()
    for number in range(200):
        user = f"p{number % 20:02d}"
        id = gateway.ask(user, bestfor={"rule": "soft:1"}).json()["bestfor"]["answer_id"]
        kind, said = [
            ("thumb", {"value": bool(draw.integers(2))}),
            ("rating", {"value": round(float(draw.random()), 3)}),
            ("edit", {"text": f"what {user} wrote {number}"}),
            ("preference", {"value": int(draw.integers(1, 8)), "over": 0}),
        ][int(draw.integers(4))]
        assert gateway.learn(id, kind, **said).status_code in (200, 201)
        given[user, kind] += 1
    page = gateway.http.get("/").text
    assert "People: 20, answers: 200, labels: 200" in page
    rows = dict(re.findall(r'<th scope="row"><a[^>]*>(p\d\d)</a></th>(.*?)</tr>', page, re.S))
    assert len(rows) == 20
    with Journal(gateway.journal) as journal:
        for user, row in rows.items():
            cells = [re.sub("<[^>]*>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)]
            labels = [label for label, _ in journal.labels_of("", user)]
            kinds = Counter(label.kind for label in labels)
            assert kinds == Counter({kind: count for (who, kind), count in given.items() if who == user})
            assert cells[0] == str(len(labels)) == "10"
            assert cells[1] == ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            answers = journal.answers_of("", user)
            assert cells[2] == str(len(answers)) == "10"
            gains = [np.dot(one.chances, one.mean) - np.mean(one.mean) for one in answers]
            assert float(cells[3]) == pytest.approx(np.mean(gains), abs=5.1e-4)
            thumbs = [label.value for label in labels if label.kind == "thumb"]
            assert cells[4] == (f"{100 * np.mean(thumbs):.0f} %" if thumbs else "")


def test_who_was_removed_is_on_no_page_in_no_export_and_in_no_file(serve, tmp_path):
    gateway = serve()
    name, words = "Zephyrine-Quaresma", "unmistakable-words-of-hers"
    id = gateway.ask(name).json()["bestfor"]["answer_id"]
    gateway.learn(id, "edit", text=words)
    gateway.ask("ben")
    page = gateway.http.get("/")
    assert name in page.text
    token = token_of(page)
    assert gateway.http.post("/page/forget", data={"csrf": token, "user": name}).status_code == 200
    for path in ("/", "/playground", f"/?like={name[:4]}"):
        text = gateway.http.get(path).text
        assert words not in text
        assert name not in text
    with Journal(gateway.journal) as journal:
        for to in FORMATS:
            export_file(journal, tmp_path / f"out.{to}", to)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"feedback.db", "feedback.db-wal", "out.csv", "out.vw"} <= {path.name for path in kept}
    for path in kept:
        held = path.read_bytes()
        assert name.encode() not in held, path
        assert words.encode() not in held, path
