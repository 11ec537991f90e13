"""Measure METEOR (Banerjee & Lavie 2005) as NLTK does: words match as they are, by their stem, or as synonyms."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from bestfor.errors import BestforError
from bestfor.extras import require
from bestfor.metrics.base import AgainstReference, Query

DATA = {
    "wordnet": ("corpora/wordnet", "corpora/wordnet.zip"),
    "punkt_tab": ("tokenizers/punkt_tab/english",),
}
"""Data of NLTK, and where it may be."""
COMMAND = "python -m nltk.downloader wordnet punkt_tab"
SEARCHED = "WNSEARCHDIR"
"""Environment variable that names WordNet's folder, to WordNet's own programs too."""
SYSTEM = Path("/usr/share/wordnet")
"""Where Linux distributions put WordNet (package wordnet-base of Debian and Ubuntu)."""
_PARTS = ("noun", "verb", "adj", "adv")
_WORDNET = tuple(pattern.format(part) for part in _PARTS for pattern in ("data.{}", "index.{}", "{}.exc"))
_LEXNAMES = 45
"""Lexicographer files of WordNet 3."""

Split = Callable[[str], list[str]]


class MissingDataError(BestforError):
    """Error of NLTK data that is not on this machine; the message holds the command that gets it."""

    exit_code = 2


class Meteor(AgainstReference):
    """METEOR with alpha = .9, beta = 3 and gamma = .5, in [0, 1], as ``evaluate.load("meteor")`` has it.

    With p and r precision and recall of matched words, in c runs of adjacent ones among m matches, the utility is
    pr / (alpha p + (1 - alpha) r) * (1 - gamma (c/m)^beta).

    Nothing is downloaded: synonyms (WordNet) and the rules that split texts into words (Punkt) have to be there.
    WordNet may be NLTK's, or WordNet's own files in the folder that ``WNSEARCHDIR`` names or in /usr/share/wordnet.

    Args:
        wordnet: has ``synsets(word)`` as NLTK's reader has; None takes the WordNet that is there, NLTK's first.
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
            hint = f" (or let {SEARCHED} name the folder of WordNet's own files)" if "wordnet" in absent else ""
            raise MissingDataError(f"meteor needs NLTK's data ({', '.join(absent)}); get it with: {COMMAND}{hint}")
        self._wordnet, self._split = wordnet, split

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric, NLTK's version, and WordNet's (or that another one was given)."""
        wordnet = _wordnet_version() if self._wordnet is None else "given"
        return {"metric": self.name, "nltk": version("nltk"), "wordnet": str(wordnet), "split": self._split is None}

    def _scores(self, query: Query, reference: str, texts: list[str]) -> list[float]:
        score = require("nltk.translate.meteor_score", "metrics").single_meteor_score
        split = self._split or require("nltk", "metrics").word_tokenize
        wordnet = self._wordnet or _wordnet()
        target = split(reference)
        return [float(score(target, split(text), wordnet=wordnet)) for text in texts]


def _here(name: str) -> bool:
    return _of_nltk(name) or (name == "wordnet" and _folder() is not None)


def _of_nltk(name: str) -> bool:
    data = require("nltk.data", "metrics")
    for place in DATA[name]:
        try:
            data.find(place)
        except LookupError:
            continue
        return True
    return False


def _folder() -> Path | None:
    """The folder of WordNet's own files, where there is one."""
    said = os.environ.get(SEARCHED)
    places = [Path(said)] if said else [SYSTEM]
    return next((one for one in places if all((one / name).is_file() for name in _WORDNET)), None)


def _wordnet() -> Any:  # noqa: ANN401 - an optional library's class
    folder = None if _of_nltk("wordnet") else _folder()
    return require("nltk.corpus", "metrics").wordnet if folder is None else _read(folder)


def _wordnet_version() -> str:
    told = str(_wordnet().get_version())
    return told if _of_nltk("wordnet") or _folder() is None else f"{told}, its own files"


@functools.cache
def _read(folder: Path) -> Any:  # noqa: ANN401 - an optional library's class
    """Read WordNet as Princeton gives it: NLTK's reader also wants the names of lexicographer files, not given there.

    They decide nothing here: METEOR asks for the words of synsets alone.
    """
    reader: Any = require("nltk.corpus.reader.wordnet", "metrics").WordNetCorpusReader

    class WordNet(reader):
        def open(self, file: str) -> IO[str]:
            if file == "lexnames" and not (folder / file).is_file():
                return io.StringIO("".join(f"{number:02d}\t{number}\t0\n" for number in range(_LEXNAMES)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """Map nothing: what it would map are the words of other languages."""

    # NLTK reads from folders alone that its own list of places holds.
    allowed = require("nltk.data", "metrics").path
    allowed.extend({str(folder)} - set(allowed))
    # Without a reader of other languages it warns, though none is asked for.
    return WordNet(str(folder), object())
