"""Run ``bestfor predict FILE.toml``: predict the rewards of a run's test candidates."""

from __future__ import annotations

from bestfor.cli._output import Stopwatch, print_json, print_rows, tell
from bestfor.cli._stages import File, Json, Out, Set, resolve


def predict(file: File, out: Out = None, changes: Set = None, as_json: Json = False) -> None:
    """Predict the rewards of a run's test candidates without their utilities; models that are not fitted are."""
    from bestfor.runs.folder import describe_rewards
    from bestfor.runs.stages import folds

    watch = Stopwatch()
    config, folder = resolve(file, out, changes)
    found = {}
    for stages in folds(config, folder, tell):
        for table in stages.config.reward:
            stages.predict(table)
        found[str(stages.folder)] = describe_rewards(stages.folder, [table.label for table in stages.config.reward])
    if as_json:
        print_json({"folders": found})
    else:
        rows = [
            (label, reward["candidates"], reward["scale"], reward["std"], reward["file"])
            for models in found.values()
            for label, reward in models.items()
        ]
        print_rows(("model", "candidates", "scale", "std", "file"), rows)
    tell(watch.line())
