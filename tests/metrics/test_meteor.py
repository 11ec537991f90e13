"""METEOR with a small WordNet and small Punkt rules written in their published formats: the real ones are downloads."""

import pickle
import shutil

import pytest

from bestfor.errors import BestforError
from bestfor.metrics import make_metric
from bestfor.metrics import meteor as module
from bestfor.metrics.base import Metric, Query
from bestfor.metrics.meteor import Meteor
from bestfor.testing.metrics import MetricTests
from support import later

nltk = later("nltk")
reader_wordnet = later("nltk.corpus.reader.wordnet")


EMPTY = (
    "cntlist.rev", "index.sense", "index.adj", "index.adv", "index.verb", "data.adj", "data.adv", "data.verb",
    "adj.exc", "adv.exc", "noun.exc", "verb.exc",
)  # fmt: skip


def ask(reference):
    return Query("q", "u", "what?", reference)


def write_data(root):
    """One synset of two nouns, and Punkt rules that know nothing."""
    write_wordnet(root / "corpora" / "wordnet")
    (root / "corpora" / "wordnet" / "lexnames").write_text("00\tnoun.artifact\t1\n")
    punkt = root / "tokenizers" / "punkt_tab" / "english"
    punkt.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (punkt / name).write_text("")


def write_wordnet(wordnet):
    """WordNet's own files, without the names of lexicographer files."""
    wordnet.mkdir(parents=True)
    for name in EMPTY:
        (wordnet / name).write_text("")
    (wordnet / "data.adj").write_text("  1 WordNet 3.0 Copyright 2006 by nobody.  \n")
    # Offset, lexicographer file, part of speech, number of words, words with their ids, number of pointers, gloss.
    (wordnet / "data.noun").write_text("00000000 00 n 02 car 0 auto 0 000 | a motor vehicle  \n")
    (wordnet / "index.noun").write_text("auto n 1 0 1 0 00000000  \ncar n 1 0 1 0 00000000  \n")


@pytest.fixture
def here(tmp_path, monkeypatch):
    write_data(tmp_path)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    reader = reader_wordnet.WordNetCorpusReader(str(tmp_path / "corpora" / "wordnet"), object())
    monkeypatch.setattr(module, "_wordnet", lambda: reader)
    yield Meteor()
    for stream in reader._data_file_map.values():
        stream.close()


class TestMeteor(MetricTests):
    @pytest.fixture
    def made(self, here):
        return here


def expected(matches, chunks, text, reference):
    precision, recall = matches / text, matches / reference
    return precision * recall / (0.9 * precision + 0.1 * recall) * (1 - 0.5 * (chunks / matches) ** 3)


def test_words_match_as_they_are_by_stem_and_as_synonyms(here):
    texts = ["the red car stops", "the red auto stopped", "stops the red car", "nothing alike", ""]
    found = here.measure(ask("the red car stops"), texts)
    by_hand = [expected(4, 1, 4, 4), expected(4, 1, 4, 4), expected(4, 2, 4, 4), 0.0, 0.0]
    assert found == pytest.approx(by_hand)
    assert here.measure(ask("a b c d e f"), ["a b x y e"]) == pytest.approx([expected(3, 2, 5, 6)])


def test_texts_are_split_by_nltks_rules(here):
    assert here.measure(ask("It doesn't."), ["it does n't ."]) == pytest.approx([expected(4, 1, 4, 4)])


def test_it_names_what_it_depends_on(here):
    assert isinstance(here, Metric)
    assert here.signature["metric"] == here.name == "meteor"
    assert here.signature["nltk"] == nltk.__version__
    assert pickle.loads(pickle.dumps(here)).measure(ask("a car"), ["a car"]) == here.measure(ask("a car"), ["a car"])


def test_missing_data_is_an_error_with_the_command_that_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(
        BestforError, match=r"\(wordnet, punkt_tab\).*python -m nltk.downloader wordnet punkt_tab"
    ) as held:
        make_metric("meteor")
    assert held.value.exit_code == 2


def test_a_wordnet_and_a_tokenizer_may_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])

    class Nothing:
        def synsets(self, word):
            return []

    metric = Meteor(wordnet=Nothing(), split=str.split)
    assert metric.measure(ask("the car"), ["the car", "the automobile"]) == pytest.approx(
        [expected(2, 1, 2, 2), expected(1, 1, 2, 2)]
    )
    assert metric.signature["wordnet"] == "given"


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """Punkt where NLTK looks, WordNet's own files where WordNet's programs look."""
    write_data(tmp_path / "nltk")
    shutil.rmtree(tmp_path / "nltk" / "corpora")
    write_wordnet(tmp_path / "dict")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "dict"))
    yield tmp_path / "dict"
    if module._read.cache_info().currsize:
        for stream in module._read(tmp_path / "dict")._data_file_map.values():
            stream.close()
    module._read.cache_clear()


def test_wordnets_own_files_will_do(own_files):
    metric = make_metric("meteor")
    assert metric.measure(ask("the red car stops"), ["the red auto stopped"]) == pytest.approx([expected(4, 1, 4, 4)])
    assert metric.signature["wordnet"] == "3.0, its own files"
    assert pickle.loads(pickle.dumps(metric)).measure(ask("a car"), ["an auto"]) == metric.measure(
        ask("a car"), ["an auto"]
    )


def test_a_folder_that_lacks_some_is_not_wordnet(own_files):
    (own_files / "verb.exc").unlink()
    with pytest.raises(BestforError, match=r"\(wordnet\).*let WNSEARCHDIR name"):
        make_metric("meteor")


@pytest.mark.slow
def test_with_the_real_wordnet_it_has_the_published_value(real_meteor):
    commands = "It is a guide to action that ensures that the military will forever heed Party commands"
    obeys = "It is a guide to action which ensures that the military always obeys the commands of the party"
    assert real_meteor.measure(ask(commands), [obeys]) == pytest.approx([0.6944], abs=5e-5), (
        "nltk.translate.meteor_score"
    )
