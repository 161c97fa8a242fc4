"""The parser, the three commands, and how a refusal is said: one line on stderr, never a traceback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import taut
from taut._errors import TautError
from taut.cli._doctor import doctor
from taut.cli._model import broken, load_model
from taut.data import read_table
from taut.diagnostics import CORRECTED, TRUSTED

OK, FAULT, REFUSED, NOT_TRUSTED, INTERRUPTED = 0, 1, 2, 3, 130

_GOOD = (TRUSTED, CORRECTED)
_WRONG_COLUMN = ("data-missing", "data-unknown")
_CODES = """\
exit codes:
  0    done; the fit is trusted, or trusted after correction
  2    refused: a wrong file, column, function or option, or a model that cannot be fitted; stderr says what was
       found and what was expected
  3    the fit finished and was printed and saved, but its verdict is "not trusted" or "unverified"
  1    a fault of taut itself, or of the installation;  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0 done, 2 refused, 3 a fit that finished but is not trusted, 1 a fault of taut or of the
        installation, 130 interrupted.

    Example:
        >>> main(["--version"])
        taut ...
        0
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has spoken: help, version, or a wrong option
        return end.code if isinstance(end.code, int) else REFUSED
    try:
        return options.run(options)
    except TautError as error:
        _say(str(error) if getattr(options, "whole", False) else _line(error))
        return REFUSED
    except KeyboardInterrupt:
        _say("taut: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # not a fault: whoever read the output has gone
        raise
    except Exception as error:
        if getattr(options, "debug", False):
            raise
        _say(f"taut: a fault of taut's own, {_brief(error)}; --debug shows where; please report it")
        return FAULT


# -- commands -------------------------------------------------------------------------------------------------------


def _fit(options: argparse.Namespace) -> int:
    data = read_table(options.data) if options.data is not None else {}
    model, file = load_model(options.model)
    inputs = [file, Path(options.data)] if options.data is not None else [file]
    outputs = [path for path in (options.save, options.report) if path is not None]
    for index, path in enumerate(outputs):
        _check_output(path, [*inputs, *map(Path, outputs[:index])])
    try:
        fit = taut.fit(model, data, key=options.key, precision=options.precision)
    except TautError as error:
        options.whole = error.code not in _WRONG_COLUMN
        raise
    except Exception as error:
        refusal = None if options.debug else broken(error, file, "a model that runs on these data")
        if refusal is None:
            raise
        raise refusal from error
    print(fit)
    if options.save is not None:
        fit.save(options.save)
        print(f"saved:  {options.save}")
    if options.report is not None:
        fit.report(options.report)
        print(f"report: {options.report}")
    return OK if fit.verdict.level in _GOOD else NOT_TRUSTED


def _show(options: argparse.Namespace) -> int:
    print(taut.load(options.file))
    return OK


def _doctor(options: argparse.Namespace) -> int:
    text, healthy = doctor()
    print(text)
    return OK if healthy else FAULT


# -- the parser -----------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _say(f"taut: {message}; see {self.prog} --help")
        raise SystemExit(REFUSED)


def _parser() -> argparse.ArgumentParser:
    shape: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(prog="python -m taut", description=taut.__doc__, epilog=_CODES, **shape)
    parser.add_argument("--version", action="version", version=f"taut {taut.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    about = "Fit a model to the data of a file, print the verdict and the posterior."
    fit = commands.add_parser("fit", help="fit a model to data", description=about, epilog=_CODES, **shape)
    fit.add_argument("model", metavar="FILE.py:FUNCTION", help="the model: a function in a Python file")
    fit.add_argument("--data", metavar="FILE", help="JSON, CSV, Parquet or npz; its columns become the arguments")
    fit.add_argument("--save", metavar="OUT.taut", help="save the fit: arrays and JSON, no pickle, no data")
    fit.add_argument("--report", metavar="OUT.html", help="write the report: one self-contained page")
    fit.add_argument("--key", type=_key, default=0, metavar="N", help="random key, a whole number (default 0)")
    fit.add_argument("--precision", choices=("float32", "float64"), help="default: float64 on a CPU, else float32")
    fit.add_argument("--debug", action="store_true", help="show Python's traceback of an unexpected error")
    fit.set_defaults(run=_fit)

    about = "Print a saved fit. No model is loaded, and no code of the file is run."
    show = commands.add_parser("show", help="print a saved fit", description=about, **shape)
    show.add_argument("file", metavar="OUT.taut", help="what fit --save wrote")
    show.add_argument("--debug", action="store_true", help="show Python's traceback of an unexpected error")
    show.set_defaults(run=_show)

    about = (
        "Say which versions, devices and precision this installation has; exit code 1 if something needed is missing."
    )
    check = commands.add_parser("doctor", help="versions, devices, precision", description=about, **shape)
    check.set_defaults(run=_doctor)
    return parser


def _key(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number such as 0")
    return int(text)


def _check_output(path: str, taken: list[Path]) -> None:
    """Refuse before the fit what would only fail, or destroy something, after it."""
    target = Path(path)
    folder = target.parent
    found = expected = ""
    if target.is_dir():
        found, expected = "a folder", "the name of a file to write"
    elif not folder.is_dir():
        found, expected = f"no folder {str(folder)!r}", "a folder that exists"
    elif not os.access(folder, os.W_OK):
        found, expected = f"a folder {str(folder)!r} that may not be written to", "a folder of yours"
    elif target.resolve() in [other.resolve() for other in taken]:
        found, expected = "a file that this command reads or writes already", "a name of its own"
    if found:
        raise TautError("file-access", site=path, found=found, expected=expected, remedy="give another path")


# -- sentences ------------------------------------------------------------------------------------------------------


def _line(error: TautError) -> str:
    where = f"{error.site}: " if error.site is not None else ""
    return " ".join(f"taut: {where}found {error.found}; expected {error.expected}; {error.remedy}".split())


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
