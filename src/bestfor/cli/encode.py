"""Run ``bestfor encode FILE.toml``: encode what a run's reward models will read."""

from __future__ import annotations

from collections import Counter

from bestfor.cli._output import Stopwatch, print_json, print_rows, tell
from bestfor.cli._stages import File, Json, Out, PartOf, Set, part_of, resolve


def encode(file: File, out: Out = None, changes: Set = None, part: PartOf = "", as_json: Json = False) -> None:
    """Encode the texts of a run that its reward models read, so that fits and predictions find the vectors there."""
    from bestfor.runs.stages import folds
    from bestfor.runs.turns import working

    watch = Stopwatch()
    config, folder = resolve(file, out, changes)
    found, share = Counter[str](), part_of(part)
    with working(config, folder, tell, share):
        for stages in folds(config, folder, tell, part=share):
            found.update(stages.encode())
    if as_json:
        print_json({"encoded": dict(found)})
    else:
        print_rows(("encoder", "texts encoded"), sorted(found.items()) or [("none", 0)])
    tell(watch.line())
