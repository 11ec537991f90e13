"""Conformance suite of metrics: inherit :class:`MetricTests` and set ``metric``.

class TestMine(MetricTests):
    metric = Mine
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.metrics.base import Metric, Query
from bestfor.metrics.check import check_metric, check_values, signature_of


class MetricTests:
    """Conformance tests of a metric: what holds for every one."""

    metric: ClassVar[type[Any]]
    options: ClassVar[dict[str, Any]] = {}
    query: ClassVar[Query] = Query("q1", "u1", "how many?", "3 red houses")
    texts: ClassVar[tuple[str, ...]] = ("3 red houses", "4 red houses and more", "", "3", "4 red houses and more")

    @pytest.fixture
    def made(self) -> Metric:
        """Build the metric; one that needs a server or data overrides it with a fixture of its own."""
        return self.metric(**self.options)

    def measure(self, metric: Metric, query: Query, texts: tuple[str, ...]) -> np.ndarray:
        """Utilities, checked as a run checks them."""
        return check_values(metric, metric.measure(query, texts), query.query_id, len(texts))

    def test_has_a_name_and_a_signature(self, made: Metric) -> None:
        check_metric(made)
        assert isinstance(made, Metric)
        assert signature_of(made) == signature_of(made)

    def test_a_number_for_each_text(self, made: Metric) -> None:
        found = self.measure(made, self.query, self.texts)
        assert found.shape == (len(self.texts),)
        assert self.measure(made, self.query, ()).shape == (0,)

    def test_equal_texts_are_worth_the_same_in_any_order_and_company(self, made: Metric) -> None:
        found = self.measure(made, self.query, self.texts)
        known = dict(zip(self.texts, found, strict=True))
        turned = self.measure(made, self.query, self.texts[::-1])
        np.testing.assert_array_equal(turned, [known[text] for text in self.texts[::-1]])
        np.testing.assert_array_equal(self.measure(made, self.query, self.texts[:1]), found[:1])

    def test_same_bits_again(self, made: Metric) -> None:
        first, second = (self.measure(made, self.query, self.texts) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_several_queries_in_one_call(self, made: Metric) -> None:
        if not getattr(made, "many", False):
            return
        queries = [self.query, replace(self.query, query_id="q2")]
        together = made.measure_many(queries, [self.texts, self.texts[:2]])  # pyright: ignore[reportAttributeAccessIssue]
        assert len(together) == 2
        for query, texts, found in zip(queries, (self.texts, self.texts[:2]), together, strict=True):
            np.testing.assert_allclose(found, self.measure(made, query, texts), rtol=1e-12, atol=1e-12)

    def test_what_goes_to_other_processes_works_there(self, made: Metric) -> None:
        if not getattr(made, "processes", False):
            return
        there = pickle.loads(pickle.dumps(made))
        np.testing.assert_array_equal(
            self.measure(there, self.query, self.texts), self.measure(made, self.query, self.texts)
        )

    def test_a_reference_that_it_needs_is_asked_for(self, made: Metric) -> None:
        bare = replace(self.query, reference=None)
        if getattr(made, "needs_reference", False):
            with pytest.raises(InputError, match="no reference"):
                made.measure(bare, self.texts)
        else:
            self.measure(made, bare, self.texts)
