"""Time what others' ratings cost an answer: python benchmarks/bench_others.py [journal] [score] [--labels 1000000].

``journal`` writes labels of a few texts that everybody rates and of many that one person does, brings a journal of the
version before to this one, and reads what others said of 8 and 30 texts. ``score`` fits the kinds that hear others to
sentences of words and lets them score 8 candidates knowing 0 to 100 ratings of each. All figures are processor time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from alembic import command
from alembic.config import Config

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Rated
from bestfor.encoders import load_encoder
from bestfor.rewards import build
from bestfor.serving.journal import AskedTexts, Journal, Label, database
from bestfor.serving.options import OTHERS
from bestfor.threads import one_thread
from figures import table

PORTION = 20_000
PEOPLE = 20_000
KNOWN = {1: 4_000, 10: 400, 100: 400, 1000: 60}
"""How many labels a text has, and how many such texts there are; all others have one label of their own."""
COUNTS = (0, 1, 3, 10, 30, 100)


def main() -> None:
    """Print the figures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], choices=["journal", "score", []])
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=["pooled", "hierarchical", "tastes", "auto"])
    parser.add_argument("--folder", type=Path, default=Path())
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as place, one_thread():
        if not asked.names or "journal" in asked.names:
            report_journal(Path(place) / "feedback.db", asked.labels)
        if not asked.names or "score" in asked.names:
            report_scores(asked.kinds)
    print(f"load of the machine at the end: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")


def spent(act: Callable[[], object], rounds: int = 1) -> float:
    """Median processor seconds of this process over some rounds."""
    found = []
    for _ in range(rounds):
        since = time.process_time()
        act()
        found.append(time.process_time() - since)
    return float(np.median(found))


def labels_to_write(count: int) -> list[Label]:
    """Thumbs of people on texts of which some are rated often, in an order drawn at random."""
    draw = np.random.default_rng(0)
    texts = [f"text {known} {one}" for known, many in KNOWN.items() for one in range(many) for _ in range(known)]
    texts += [f"text of its own {one}" for one in range(count - len(texts))]
    order = draw.permutation(len(texts))[:count]
    return [
        Label(f"k{n}", f"u{n * 7919 % PEOPLE}", "thumb", value=float(n % 3 > 0), texts=(texts[at],), time=float(n + 1))
        for n, at in enumerate(order.tolist())
    ]


def report_journal(path: Path, count: int) -> None:
    """Write, migrate and read."""
    given = labels_to_write(count)
    with Journal(path) as journal:
        took = spent(lambda: journal.add_labels("", given, portion=PORTION))
        print(f"{count:,} labels written: {took / count * 1e6:.1f} us each")
    size = path.stat().st_size
    migrate(path, "004")
    took = spent(lambda: Journal(path).close())
    print(f"brought from version 004 to this one in {took:.1f} s; the file has {size / 1e6:.0f} MB")
    with Journal(path) as journal:
        rows = []
        for known in (0, *KNOWN):
            cells: list[object] = [f"{known:,}"]
            for texts in (8, 30):
                asked = AskedTexts("", "u1", "", tuple(f"text {known} {place}" for place in range(texts)))
                found = journal.said_by_others(asked, OTHERS)
                took = spent(lambda asked=asked: journal.said_by_others(asked, OTHERS), 200)
                cells += [f"{len(found):,}", f"{took * 1e3:.2f}"]
            rows.append(cells)
        table(["labels of each text", "read, 8 texts", "ms", "read, 30 texts", "ms"], rows)


def migrate(path: Path, version: str) -> None:
    """Bring a journal back to an older version."""
    engine = database.make_engine(database.parse_url(path), writes=True)
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, version)
    engine.dispose()


def report_scores(kinds: list[str]) -> None:
    """Score 8 candidates knowing so many ratings of each."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghij"), size=5)) for _ in range(300)]
    texts = [" ".join(draw.choice(words, size=8)) for _ in range(200)]
    encoder = load_encoder()
    encoder.encode(texts)
    taste, merit = draw.normal(size=(200, 120)), draw.normal(size=120)
    said = [np.sort(draw.choice(120, 40, replace=False)) for _ in range(200)]
    fit = Candidates.of(
        [f"u{user}" for user in range(200)],
        [""] * 200,
        [[texts[at] for at in mine] for mine in said],
        [taste[user, mine] + merit[mine] for user, mine in enumerate(said)],
    )
    asked = texts[120:128]
    rows = []
    for kind in kinds:
        model = build(kind, encoder=encoder).fit(fit, rng=0)
        cells = [kind]
        for count in COUNTS:
            others = {
                f"u{user}": Labels(tuple(Rated("", text, float(draw.normal())) for text in asked))
                for user in range(1, count + 1)
            }
            cells.append(
                f"{spent(lambda model=model, others=others: model.score('u0', '', asked, others=others), 30) * 1e3:.2f}"
            )
        rows.append(cells)
    table(["ms for 8 candidates, by ratings of each", *map(str, COUNTS)], rows)


if __name__ == "__main__":
    main()
