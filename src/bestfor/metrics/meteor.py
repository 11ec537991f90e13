"""Measure METEOR (Banerjee & Lavie 2005) as NLTK does: words match as they are, by their stem, or as synonyms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from bestfor.errors import BestforError
from bestfor.extras import require
from bestfor.metrics.base import AgainstReference, Query

DATA = {
    "wordnet": ("corpora/wordnet", "corpora/wordnet.zip"),
    "punkt_tab": ("tokenizers/punkt_tab/english",),
}
"""Data of NLTK, and where it may be."""
COMMAND = "python -m nltk.downloader wordnet punkt_tab"

Split = Callable[[str], list[str]]


class MissingDataError(BestforError):
    """Error of NLTK data that is not on this machine; the message holds the command that gets it."""

    exit_code = 2


class Meteor(AgainstReference):
    """METEOR with alpha = .9, beta = 3 and gamma = .5, in [0, 1], as ``evaluate.load("meteor")`` has it.

    With p and r precision and recall of matched words, in c runs of adjacent ones among m matches, the utility is
    pr / (alpha p + (1 - alpha) r) * (1 - gamma (c/m)^beta).

    Nothing is downloaded: synonyms (WordNet) and the rules that split texts into words (Punkt) have to be there.

    Args:
        wordnet: has ``synsets(word)`` as NLTK's reader has; None takes NLTK's WordNet.
        split: cuts a text into words; None takes NLTK's ``word_tokenize``.

    Raises:
        MissingDataError: WordNet or Punkt is not on this machine.
        MissingExtraError: nltk is not installed.
    """

    name = "meteor"
    extras = ("metrics",)

    def __init__(self, *, wordnet: Any = None, split: Split | None = None) -> None:  # noqa: ANN401 - an optional library's class
        require("nltk.translate.meteor_score", "metrics")
        needed = [name for name, given in (("wordnet", wordnet), ("punkt_tab", split)) if given is None]
        absent = [name for name in needed if not _here(name)]
        if absent:
            raise MissingDataError(f"meteor needs NLTK's data ({', '.join(absent)}); get it with: {COMMAND}")
        self._wordnet, self._split = wordnet, split

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric, NLTK's version, and WordNet's (or that another one was given)."""
        wordnet = _wordnet().get_version() if self._wordnet is None else "given"
        return {"metric": self.name, "nltk": version("nltk"), "wordnet": str(wordnet), "split": self._split is None}

    def _scores(self, query: Query, reference: str, texts: list[str]) -> list[float]:
        score = require("nltk.translate.meteor_score", "metrics").single_meteor_score
        split = self._split or require("nltk", "metrics").word_tokenize
        wordnet = self._wordnet or _wordnet()
        target = split(reference)
        return [float(score(target, split(text), wordnet=wordnet)) for text in texts]


def _here(name: str) -> bool:
    data = require("nltk.data", "metrics")
    for place in DATA[name]:
        try:
            data.find(place)
        except LookupError:
            continue
        return True
    return False


@functools.cache
def _wordnet() -> Any:  # noqa: ANN401 - an optional library's class
    return require("nltk.corpus", "metrics").wordnet
