import copy
import json
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest

from bestfor.diagnostics import Diagnosis, diagnose_arrays
from bestfor.diagnostics.wire import diagnosis_json
from bestfor.diagnostics.words import actions
from bestfor.errors import InputError
from bestfor.report import render_html, write_html
from bestfor.report.shown import open_diagnosis, policy_in_words, shown_models
from bestfor.report.words import coded, percent, span, unquoted

VOID = {"meta", "link", "input", "br", "path", "rect", "circle"}
TEN = (
    "hierarchical",
    "pooled",
    "point",
    "gaussian",
    "bradley_terry",
    "crowd",
    "similarity",
    "n" * 200,
    "lora",
    "length",
)


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order; collects ids, attributes and visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.named: list[str] = []
        self.text: list[str] = []
        self.radios: list[dict[str, str | None]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("href", "src", "action", "xlink:href") if key in given]
        self.named += [name for key in ("aria-labelledby",) for name in (given.get(key) or "").split()]
        if tag == "input":
            self.radios.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def sections(page: str) -> list[str]:
    return re.findall(r'<section aria-labelledby="(\w+)"', page)


def test_page_is_well_formed_self_contained_and_names_its_parts(diagnosis, texts):
    source = render_html(diagnosis, texts=texts[0], inputs=texts[1])
    page = Page(source)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.named) <= set(page.ids)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in source
    assert "<script" not in source
    assert "Content-Security-Policy" in source


def test_every_link_leads_to_a_section(make):
    page = Page(render_html(make(("hierarchical", "pooled"), folds=3)))
    inside = {link for link in page.links if link.startswith("#")}
    assert inside >= {"#todo", "#curves", "#spread", "#pairs", "#researchers"}
    assert {link[1:] for link in inside} <= set(page.ids)


def test_sections_come_in_the_promised_order(make):
    wanted = ["todo", "curves", "spread", "pairs", "law", "suspects", "beyond", "calibration", "quantities"]
    wanted += ["findings", "folds", "again"]
    source = render_html(make(folds=3))
    assert sections(source) == wanted
    opened, _, folded = source.partition('<details class="fold" id="researchers">')
    assert sections(opened) == wanted[:4]
    assert sections(folded) == wanted[4:]
    assert sections(render_html(make())) == [name for name in wanted if name != "folds"]
    absent = ("folds", "calibration", "pairs")
    assert sections(render_html(make(("scores",)))) == [name for name in wanted if name not in absent]


def test_queries_whose_texts_are_known_stand_before_the_curves(diagnosis, texts):
    given, asked = texts
    assert sections(render_html(diagnosis, texts=given, inputs=asked))[:3] == ["todo", "suspects", "curves"]


def test_orange_is_no_model_and_means_bad():
    from bestfor.report.charts.plots import BAD, COLORS

    style = (resources.files("bestfor.report") / "templates" / "style.css").read_text(encoding="utf-8")
    orange = set(re.findall(r"--bad:(#[0-9a-f]{6})", style))
    assert BAD in orange
    assert len(orange) == 2
    assert orange.isdisjoint(re.findall(r"--c\d:(#[0-9a-f]{6})", style))
    assert orange.isdisjoint(COLORS)
    assert re.findall(r"--c\d:(#[0-9a-f]{6})", style)[: len(COLORS)] == list(COLORS), "pictures and page agree"
    used = re.findall(r"([^{}]+)\{[^{}]*var\(--bad\)", style)
    assert all("bad" in one or "pick" in one or ".side" in one for one in used), used


def test_axes_name_the_utility(diagnosis):
    diagnosis["signature"]["utility"] = "stars"
    source = render_html(diagnosis)
    assert "stars of the pick" in source
    assert "gain in stars over the pool mean" in source
    diagnosis["signature"].pop("utility")
    diagnosis["signature"]["metric"] = "rougeL"
    assert "rougeL of the pick, 0 to 1" in render_html(diagnosis)
    assert "utility of the pick" not in render_html(diagnosis).split("</style>")[1].split("<details")[0]


def test_names_between_backticks_are_code_and_nothing_else_is_markup(make):
    source = render_html(make(("a<b>", "pooled")))
    head = source[source.index("<h1>") : source.index("</h1>")]
    assert "<code>a&lt;b&gt;</code>" in head or "<code>pooled</code>" in head
    assert "`" not in head
    assert "`" not in Page(source).words.split("For researchers")[0]


def test_the_head_says_in_words_what_was_measured(diagnosis):
    source = render_html(diagnosis, data="votes of a town", date="measured on 3 May 2026")
    words = Page(source[: source.index("</header>")].replace("<!doctype html>", "") + "</header></body></html>").words
    assert " · ".join(("votes of a town", "texts written by people", "measured on 3 May 2026")) not in words
    for fact in ("votes of a town", "texts written by people", "measured on 3 May 2026"):
        assert f" {fact} " in f"{words} "
    assert "Gain in utility over a random candidate, of the headroom: what a perfect picker" in words
    assert "utility:" not in words, "its name is not known"
    diagnosis["signature"]["metric"] = "rougeL"
    source = render_html(diagnosis)
    assert "Gain in utility (<code>rougeL</code>, 0 to 1) over a random candidate" in source
    assert "utility: rougeL" not in source, "its name is said once"
    diagnosis["signature"]["policy"] = {"model": "a-very-long-name-of-a-policy/" + 40 * "x"}
    assert "a-very-long-name-of-a-policy/" + 40 * "x" in Page(render_html(diagnosis)).words


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("human", "texts written by people"),
        ({"kind": "transformers", "model": "embedded"}, "candidates by the language model that comes with bestfor"),
        ({"kind": "transformers", "model": "Qwen/Qwen3-4B"}, "candidates by Qwen/Qwen3-4B"),
        ({"kind": "replay", "model": ""}, "candidates by replay"),
        ("base", "candidates by one language model for everybody"),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_policy_is_named_in_words(make, policy, said):
    found = make()
    found["signature"]["policy"] = policy
    assert policy_in_words(Diagnosis.from_dict(found)) == said


@pytest.mark.slow
def test_a_model_keeps_its_colour_and_a_baseline_its_grey(make):
    from bestfor.report.charts import plots

    models = shown_models(Diagnosis.from_dict(make(("pooled", "hierarchical", "length"))))
    for model, color in zip(models, (plots.COLORS[0], plots.COLORS[1], plots.QUIET), strict=True):
        drawn = (plots.UsersPlot, plots.CorrelationPlot, plots.WaterfallPlot, plots.ReliabilityPlot, plots.PitPlot)
        assert {one.color for kind in drawn if (one := kind.of(model)) is not None} == {color}
        assert plots.LawPlot.of(model).observed.color == color
    assert plots.ComparisonsPlot.of(Diagnosis.from_dict(make(("pooled", "hierarchical")))).color in plots.COLORS[:2]


def test_headline_and_key_numbers_are_those_of_the_diagnosis(diagnosis):
    model = diagnosis["models"]["hierarchical"]
    model["captured"][-1], model["captured_low"][-1], model["captured_high"][-1] = 0.371, 0.331, 0.409
    words = Page(render_html(diagnosis)).words
    headroom = diagnosis["oracle"]["utility"][-1] - diagnosis["pool_mean"]
    best = model["best_n"][0]
    assert (best["n"], best["verdict"]) == (16, "pays")
    assert f"Best-of-16 with hierarchical pays: +{best['gain']:.2f} of {headroom:.2f}" in words
    assert "37% of the headroom captured at N = 16 33% to 41%" in words
    assert "95% interval, two-way users × texts" in words
    assert "16 candidates if a doubling costs 2% of the headroom pays: the gain less the price is above 0" in words
    q = model["quantities"]
    clearly = span(q["corrected"]["beta_05_low"], q["corrected"]["beta_05_high"])
    share = percent(q["corrected"]["beta_05"])
    label = "of queries clearly hacked (β below \N{MINUS SIGN}0.05)"
    assert f"{share} {label} {clearly} their rewards run against" in words
    assert "their rewards run against their utilities without the noise of small pools" in words
    assert f"β, hacked queries, naive {percent(q['beta'])} {span(q['beta_low'], q['beta_high'])}" in words
    q["corrected"]["beta_05"] = q["corrected"]["beta_05_high"] + 0.1
    assert f"{clearly} {label} their rewards run against" in Page(render_html(diagnosis)).words, "beside its interval"
    assert "hacked (β) " not in words


def test_what_to_do_holds_actions_alone_and_the_rest_is_folded(diagnosis):
    source = render_html(diagnosis)
    opened, folded = source[: source.index('id="researchers"')], source[source.index('id="researchers"') :]
    todo = opened[opened.index('id="todo"') : opened.index('class="tiles"')]
    findings = open_diagnosis(diagnosis).models["hierarchical"].findings
    asked = actions(findings)
    assert asked
    assert todo.count("<li>") == min(len(asked), 3)
    assert "The law says" not in opened
    assert "Of the growth terms" not in opened
    for finding in findings:
        if finding not in asked[:3]:
            assert str(coded(finding)) in folded


def test_differences_of_shares_are_in_points(diagnosis):
    pair = next(one for one in diagnosis["comparisons"] if one["n"] == 16)
    words = Page(render_html(diagnosis)).words
    assert "difference, points" in words
    shown = percent(pair["captured_difference"], signed=True).removesuffix("%")
    assert f" {shown} {span(pair['low'], pair['high']).replace('%', '')} " in words
    assert "Where the interval includes zero, neither is shown better." in words


def test_users_who_are_worse_off_are_counted(diagnosis):
    users = diagnosis["models"]["hierarchical"]["per_user"]
    below = sum(one["captured"] is not None and one["captured"] < 0 for one in users)
    assert below > 1
    said = f"{below} of {len(users)} users are worse off than with a random answer."
    assert said in Page(render_html(diagnosis)).words


def test_same_input_gives_the_same_bytes(diagnosis, texts, tmp_path):
    first = render_html(diagnosis, texts=texts[0])
    assert first == render_html(json.loads(json.dumps(diagnosis)), texts=dict(reversed(texts[0].items())))
    write_html(tmp_path / "deep" / "report.html", diagnosis, texts=texts[0])
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == first
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_a_failed_page_leaves_the_old_one(tmp_path, diagnosis):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(InputError):
        write_html(path, {"models": {}})
    assert path.read_text() == "old"


def test_texts_are_shown_but_never_markup(diagnosis, texts):
    source = render_html(diagnosis, texts=texts[0], inputs=texts[1])
    page = Page(source)
    assert "<script>alert('x')</script> & <b>bold</b> \"quoted\" {{ 7 * 7 }}" in page.words
    assert "<img src=x onerror=alert(1)>" in page.words
    assert "الحافلات" in page.words
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c" in page.words
    assert "1,260 characters" in page.words
    source.encode("utf-8")


def test_hostile_names_everywhere_stay_text(make):
    evil = "</style><script>alert(1)</script>\"'&{{x}}"
    diagnosis = make((evil, "pooled"))
    diagnosis["name"] = diagnosis["headline"] = evil
    diagnosis["signature"]["policy"] = evil
    model = diagnosis["models"][evil]
    model["suspects"][0]["query"] = model["suspects"][0]["user"] = evil
    model["per_user"][0]["user"] = model["notes"][0] = model["interval"] = model["scale"] = evil
    source = render_html(diagnosis, inputs={evil: evil}, title=evil)
    Page(source)
    assert "<script" not in source
    assert source.count("</style>") == 1


def test_long_texts_are_folded_and_cut_with_a_word_about_it(diagnosis):
    suspect = diagnosis["models"]["hierarchical"]["suspects"][0]
    words = Page(render_html(diagnosis, texts={(suspect["query"], suspect["pick"]): "word " * 2000})).words
    assert "10,000 characters" in words
    assert "The first 4,000 of 10,000 characters." in words


def test_nothing_null_is_printed_as_such(bare, diagnosis):
    for given in (bare, diagnosis):
        words = Page(render_html(given)).words
        assert not re.search(r"\b(None|nan|null|inf)\b", words)
    words = Page(render_html(bare)).words
    assert "it takes 20 queries with 20 candidates each" in words
    assert "no interval: too few users carry it" in words
    assert {"law", "pairs", "beyond"}.isdisjoint(sections(render_html(bare))), "nothing is said of what is not there"


def test_no_models_at_all(diagnosis):
    diagnosis["models"], diagnosis["comparisons"] = {}, []
    assert "This diagnosis holds no models" in Page(render_html(diagnosis)).words


def test_one_user_is_a_sentence_and_few_are_dots(make):
    one = make(("scores",), users=1)
    assert "One user, user-0000:" in Page(render_html(one)).words
    few = render_html(make(("scores",), users=40))
    shares = [
        user for user in make(("scores",), users=40)["models"]["scores"]["per_user"] if user["captured"] is not None
    ]
    assert few.count('class="dot') == 2 * len(shares)
    assert 'class="dot' not in render_html(make(("scores",), users=400))


@pytest.mark.slow
def test_ten_models_and_two_thousand_users_stay_small(make, texts_of):
    diagnosis = make(TEN, users=2000, n=(1, 2, 4, 8, 16, 30), queries=1, corrected=False)
    source = render_html(diagnosis, texts=texts_of(diagnosis)[0])
    page = Page(source)
    assert len(source.encode()) < 700_000
    assert len(page.radios) == len(TEN)
    assert [radio["id"] for radio in page.radios if "checked" in radio] == ["m0"]


@pytest.mark.slow
def test_longest_texts_keep_the_page_under_three_megabytes(make):
    diagnosis = make(TEN, users=70)
    shown = [one for model in diagnosis["models"].values() for one in model["suspects"]]
    given = {(one["query"], one[which]): "&" * 50_000 for one in shown for which in ("pick", "best")}
    assert len(shown) > 100
    assert 100_000 < len(render_html(diagnosis, texts=given).encode()) < 3_000_000


def test_baselines_are_quiet_and_last_and_never_first_shown(make):
    diagnosis = make(("length", "pooled"))
    diagnosis["models"]["length"]["captured"][-1] = 0.9
    source = render_html(diagnosis)
    names = re.findall(r'<label class="chip( quiet)?" title="(\w+)"', source)
    assert names == [("", "pooled"), (" quiet", "length")]
    assert re.search(r'id="m0" checked', source)


def test_every_fold_has_its_column(make):
    diagnosis = make(folds=3)
    words = Page(render_html(diagnosis)).words
    assert "mean of 3 folds" in words
    heads = " ".join(f"fold {place} {fold['users']} users" for place, fold in enumerate(diagnosis["folds"]))
    assert f"{heads} mean" in words


def test_suspects_that_chance_explains_stand_apart(diagnosis):
    source = render_html(diagnosis)
    suspects = diagnosis["models"]["hierarchical"]["suspects"][:10]
    unlucky = sum(suspect["posterior"] < 0.5 for suspect in suspects)
    assert 0 < unlucky < 10
    assert f"{unlucky} bad pick" in Page(source).words


def test_comparisons_show_the_largest_n_and_fold_the_others(make):
    words = Page(render_html(make(("hierarchical", "pooled")))).words
    assert "Difference in captured share at N = 16" in words
    assert "Differences at every N" in words


def test_what_diagnose_writes_can_be_rendered():
    rng = np.random.default_rng(0)
    rows = 12 * 2 * 8
    query = np.repeat([f"q{i}" for i in range(24)], 8)
    user = np.repeat([f"u{i // 2}" for i in range(24)], 8)
    utility = rng.normal(size=rows)
    rewards = {"good": utility + rng.normal(size=rows), "flat": np.zeros(rows)}
    written = json.loads(json.dumps(diagnosis_json(diagnose_arrays(user, query, utility, rewards)), allow_nan=False))
    words = Page(render_html(written)).words
    assert unquoted(written["headline"]) in words
    assert not re.search(r"\b(None|nan)\b", words)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("models"), "no 'models'"),
        (lambda d: d.pop("oracle"), "no 'oracle'"),
        (lambda d: d["models"].update(pooled=3), "int"),
        (lambda d: d["models"]["pooled"].update(n="1,2"), "str"),
        (lambda d: d["models"]["pooled"].update(n=[0, 1]), "[0, 1]"),
        (lambda d: d["models"]["pooled"].update(n=[2, 1]), "[2, 1]"),
        (lambda d: d["models"]["pooled"].update(utility=[1.0]), "1 values"),
        (lambda d: d["models"]["pooled"].update(suspects=["q1"]), "something else than objects"),
        (lambda d: d["models"]["hierarchical"]["calibration"]["reliability"].update(low=[1.0]), "equally many bins"),
    ],
)
def test_what_is_no_diagnosis_is_refused_in_one_line(diagnosis, change, said):
    broken = copy.deepcopy(diagnosis)
    change(broken)
    with pytest.raises(InputError) as caught:
        render_html(broken)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("correlations", "edges", 0), None),
        (("calibration", "temperature"), -1.5),
        (("calibration", "tempered_gain"), None),
        (("calibration", "reliability", "predicted", 0), None),
        (("calibration", "pit", 0), None),
        (("extrapolation", "trusted_to"), 0),
        (("per_user_n", "cost_per_candidate"), None),
        (("stopping", "cost_per_candidate"), None),
        (("quantities", "corrected"), {}),
        (("ledger",), {}),
        (("three_draw",), None),
    ],
    ids=lambda one: ".".join(map(str, one)) if isinstance(one, tuple) else repr(one),
)
def test_a_page_of_what_is_half_known_shows_no_number_that_is_none(make, keys, value):
    diagnosis = make(("hierarchical",), users=30)
    inner = diagnosis["models"]["hierarchical"]
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    source = render_html(diagnosis)
    Page(source)
    assert not re.search(r"\b(None|nan)\b", source)


def test_a_diagnosis_its_json_and_its_file_give_one_page(make, tmp_path):
    found = Diagnosis.from_dict(make())
    (tmp_path / "diagnosis.json").write_text(json.dumps(found.to_dict()), encoding="utf-8")
    page = render_html(found)
    for given in (found.to_dict(), tmp_path, str(tmp_path / "diagnosis.json")):
        assert render_html(given) == page
    found.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_sentences_are_written_anew(diagnosis):
    diagnosis["headline"], model = "of old", diagnosis["models"]["hierarchical"]
    findings, model["findings"] = model["findings"], ["of old"]
    words = Page(render_html(diagnosis)).words
    assert "of old" not in words
    assert findings[0] in words


def test_a_list_is_no_diagnosis():
    with pytest.raises(InputError, match="found list"):
        render_html([])  # type: ignore[arg-type]
