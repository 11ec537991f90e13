"""Run ``bestfor predict FILE.toml``: predict the rewards of a run's test candidates."""

from __future__ import annotations

from bestfor.cli._output import Stopwatch, print_json, print_rows, tell
from bestfor.cli._stages import File, Json, Out, PartOf, Set, part_of, resolve


def predict(file: File, out: Out = None, changes: Set = None, part: PartOf = "", as_json: Json = False) -> None:
    """Predict the rewards of a run's test candidates without their utilities; models that are not fitted are."""
    from bestfor.runs.folder import describe_rewards
    from bestfor.runs.stages import folds
    from bestfor.runs.turns import working

    watch = Stopwatch()
    config, folder = resolve(file, out, changes)
    found, share = {}, part_of(part)
    with working(config, folder, tell, share):
        for stages in folds(config, folder, tell, part=share):
            tables = stages.own_models()
            stages.predict_together(tables)
            for table in tables:
                stages.predict(table)
            found[str(stages.folder)] = describe_rewards(stages.folder, [table.label for table in tables])
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
