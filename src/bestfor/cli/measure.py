"""Run ``bestfor measure FILE.toml``: measure the utility of every candidate of a run."""

from __future__ import annotations

from bestfor.cli._output import Stopwatch, print_json, print_rows, tell
from bestfor.cli._stages import File, Json, Out, PartOf, Set, part_of, resolve


def measure(file: File, out: Out = None, changes: Set = None, part: PartOf = "", as_json: Json = False) -> None:
    """Measure the candidates of a run; those that have to be sampled must be there (bestfor generate)."""
    from bestfor.metrics import metric_label
    from bestfor.runs.build import metric_names
    from bestfor.runs.folder import describe_utilities
    from bestfor.runs.stages import folds
    from bestfor.runs.turns import working

    watch = Stopwatch()
    config, folder = resolve(file, out, changes)
    found, share = {}, part_of(part)
    with working(config, folder, tell, share):
        for stages in folds(config, folder, tell, part=share):
            if share is not None:
                stages.measure_part()
                continue
            stages.measure()
            names = [metric_label(name) for name in metric_names(stages.config, stages.data)]
            found[str(stages.folder)] = describe_utilities(stages.folder, names)
    if as_json:
        print_json({"folders": found})
    elif share is None:
        rows = [
            (place, metric, split, part["candidates"], part["mean"])
            for place, metrics_there in found.items()
            for metric, splits in metrics_there.items()
            for split, part in splits.items()
        ]
        print_rows(("folder", "metric", "split", "candidates", "mean"), rows)
    tell(watch.line())
