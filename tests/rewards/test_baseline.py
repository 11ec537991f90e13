from dataclasses import replace

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.rewards import Length, Logprob
from bestfor.testing.rewards import RewardModelTests, taste_examples


class TestLength(RewardModelTests):
    model = Length

    def test_length_counts_characters_either_way(self):
        examples = taste_examples()
        lengths = np.array([len(examples.texts[code]) for code in examples.text])
        np.testing.assert_array_equal(Length().fit(examples, rng=0).predict(examples).mean, lengths)
        np.testing.assert_array_equal(Length(prefer="short").fit(examples, rng=0).predict(examples).mean, -lengths)


class TestLogprob(RewardModelTests):
    model = Logprob
    bare = False

    def test_refuses_texts_without_logprob(self):
        examples = taste_examples()
        model = Logprob().fit(examples, rng=0)
        holes = examples.logprob.copy()
        holes[5] = np.nan
        with pytest.raises(InputError, match=f"for 1 of {len(examples)} candidates"):
            model.predict(replace(examples, logprob=holes))

    def test_whole_text_logprob_is_handed_through(self):
        examples = taste_examples()
        estimate = Logprob(per_word=False).fit(examples, rng=0).predict(examples)
        np.testing.assert_allclose(estimate.mean, examples.logprob, rtol=1e-8)
