"""Register the verbs, and turn errors into exit codes."""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from bestfor.cli import (
    blocks,
    demo,
    diagnose,
    doctor,
    encode,
    encoders,
    fit,
    generate,
    journal,
    keys,
    kinds,
    measure,
    models,
    plan,
    pool,
    predict,
    refit,
    report,
    run,
    score,
    select,
    serve,
)
from bestfor.errors import BestforError, InputError, nearest
from bestfor.version import __version__

app = typer.Typer(
    name="bestfor",
    help="Sample N, answer with the one this user would pick, and know beforehand whether it pays.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sample N, answer with the one this user would pick, and know beforehand whether it pays."""


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("generate")(generate.generate)
app.command("measure")(measure.measure)
app.command("encode")(encode.encode)
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.command("score")(score.score)
app.command("select")(select.select)
app.command("diagnose")(diagnose.diagnose)
app.command("report")(report.report)
app.add_typer(pool.app, name="pool")
app.add_typer(journal.app, name="journal")
app.add_typer(blocks.app, name="blocks")
app.command("serve")(serve.serve)
app.command("refit")(refit.refit)
app.add_typer(keys.app, name="keys")
app.add_typer(encoders.app, name="encoders")
app.add_typer(models.app, name="models")
app.command("kinds")(kinds.kinds)
app.command("doctor")(doctor.doctor)


def main() -> int:
    """Run the command line.

    Returns:
        0 done, 1 failed run, 2 bad arguments or bad input (one line on standard error).
    """
    try:
        result = app(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except BestforError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        return _fail(_usage(error), 2)
    except typer.Abort:
        return _fail("stopped", 130)
    except KeyboardInterrupt:
        return _fail("stopped; the same command continues where it was", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        return _fail_io(error)


_PLACE_IS_GONE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "ESTALE", "ENOTCONN", "ENODEV", "ENXIO", "ESHUTDOWN")
    if hasattr(errno, name)
}
"""A full disk, a quota, a mount that is lost: nothing that is saved is lost by it."""


def _fail_io(error: Exception) -> int:
    """Say what the operating system refused; libraries in other languages put its number into their own words.

    Raises:
        Exception: it was nothing of the kind.
    """
    number, reason = getattr(error, "errno", None), str(error)
    if not isinstance(error, OSError):
        said = re.search(r"\(os error (\d+)\)|(database or disk is full)", reason)
        if said is None:
            raise error
        number = int(said[1]) if said[1] else errno.ENOSPC
    # Messages of arrow repeat themselves, and name no file.
    reason = os.strerror(number) if number and number in _PLACE_IS_GONE else getattr(error, "strerror", None) or reason
    where = getattr(error, "filename", None)
    if number == errno.ENAMETOOLONG:
        return _fail(str(InputError(f"'{str(where)[:80]}...'", "a name that is too long", "a shorter one")), 2)
    if number not in _PLACE_IS_GONE:
        return _fail(f"{where}: {reason}" if where else reason, 1)
    expected = "a disk with room that can be written; what was done is kept, and the same command goes on"
    return _fail(str(InputError(str(where or "writing"), reason.lower(), expected)), 2)


def _usage(error: Exception) -> str:
    describe = getattr(error, "format_message", None)
    said = str(describe() if describe else error) or "no command (see bestfor --help)"
    choice = re.fullmatch(
        r"Invalid value for '([^']*)': (?:Value error, )?'(.*)' is not one of (.*)\.", said, re.DOTALL
    )
    if choice is None:
        return said
    option, found, known = choice.groups()
    return str(InputError(option.split(" ")[0], f"'{found}'", nearest(found, re.findall("'([^']*)'", known))))


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"bestfor: {line}\n")
    return code
