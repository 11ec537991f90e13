import numpy as np
import pyarrow as pa
import pytest

from bestfor.data.candidates import History
from bestfor.data.schema import QUERIES
from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.rewards import Hierarchical, Length, Mbr, Similarity
from bestfor.runs.joins import scorer
from bestfor.testing.rewards import LetterEncoder, taste_examples


def asked(examples):
    rows = [
        {"query_id": name, "user_id": examples.users[code // 3], "input": text, "reference": None, "split": "test"}
        for code, (name, text) in enumerate(zip(examples.queries, examples.inputs, strict=True))
    ]
    queries = pa.Table.from_pylist([{**row, "timestamp": None} for row in rows], schema=QUERIES)
    return queries, [Prompt(name, ({"role": "user", "content": "?"},), "") for name in examples.queries]


@pytest.mark.parametrize("kind", [Hierarchical, Length, Similarity])
def test_scores_are_what_the_model_predicts(kind):
    examples = taste_examples()
    if kind is Similarity:
        texts = {user: ("abc", "bcd") for user in examples.users}
        examples = type(examples)(**{**vars(examples), "history": History(texts)})
    encoder = LetterEncoder() if kind.uses_encoder() else None
    model = kind(encoder=encoder).fit(examples, rng=0)
    queries, prompts = asked(examples)
    texts = [[examples.texts[code] for code in examples.text[examples.query == row]] for row in range(len(prompts))]
    expected = model.predict(examples).mean
    score = scorer(model, queries, examples.history)
    np.testing.assert_allclose(np.concatenate(score(prompts, texts)), expected, rtol=1e-7)
    some = score(prompts[7:5:-1], [texts[7][:2], texts[6][3:]])
    np.testing.assert_allclose(some[0], expected[examples.query == 7][:2], rtol=1e-7)
    np.testing.assert_allclose(some[1], expected[examples.query == 6][3:], rtol=1e-7)


def test_unknown_queries_and_models_that_compare_are_refused():
    examples = taste_examples()
    queries, prompts = asked(examples)
    score = scorer(Length().fit(examples, rng=0), queries.slice(0, 2))
    with pytest.raises(InputError, match="query 'q2'"):
        score(prompts[:3], [["a"]] * 3)
    with pytest.raises(InputError, match="mbr"):
        scorer(Mbr().fit(examples, rng=0), queries)
