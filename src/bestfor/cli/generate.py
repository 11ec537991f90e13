"""Run ``bestfor generate FILE.toml``: sample the candidates of a run."""

from __future__ import annotations

from bestfor.cli._output import Stopwatch, print_json, tell
from bestfor.cli._stages import File, Json, Out, PartOf, Set, part_of, resolve
from bestfor.cli.pool import print_pool
from bestfor.errors import InputError


def generate(file: File, out: Out = None, changes: Set = None, part: PartOf = "", as_json: Json = False) -> None:
    """Sample the candidates of a run that are owed; what is there is kept, and a call that was stopped goes on."""
    from bestfor.runs.folder import describe_pool
    from bestfor.runs.stages import folds
    from bestfor.runs.turns import working

    watch = Stopwatch()
    config, folder = resolve(file, out, changes)
    if config.door == "ratings":
        expected = "histories: ratings bring their own candidates (bestfor measure, bestfor run)"
        raise InputError(str(file), f"data source '{config.data.source}'", expected)
    share = part_of(part)
    with working(config, folder, tell, share):
        for stages in folds(config, folder, tell, part=share):
            stages.sample()
    found = describe_pool(folder)
    if as_json:
        print_json(found)
    else:
        print_pool(found)
    tell(watch.line())
