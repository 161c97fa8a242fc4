"""A model from a file: ``FILE.py:FUNCTION`` to a callable; the user's own errors as one sentence with their line."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from taut._errors import TautError

_FORM = "FILE.py:FUNCTION, such as examples/eight_schools.py:schools"
_LONGEST = 300  # characters of a message; some libraries put whole arrays into theirs


def load_model(spec: str) -> tuple[Callable[..., Any], Path]:
    """Load the file and take the function out of it.

    The file runs under a private module name, so that it neither hides nor replaces an installed module, and its folder
    is on ``sys.path`` only while it runs.

    Args:
        spec: ``FILE.py:FUNCTION``.

    Returns:
        The function, and the file.

    Raises:
        TautError: ``bad-argument`` (not of that form), ``file-missing``, ``file-format`` (not Python), ``model-broken``
            (the file raises while it loads), ``model-missing`` (no such function; the nearest name is suggested).

    Example:
        >>> load_model("examples/eight_schools.py:schools")
        (<function schools at 0x7f...>, PosixPath('examples/eight_schools.py'))
    """
    file, _, name = spec.rpartition(":")
    if not name.isidentifier():  # no colon at all, or the one of a Windows drive
        file, name = (spec[:-1] if spec.endswith(":") else spec), ""
    path = Path(file)
    _check(spec, path)
    if not name:
        functions = _functions_in_source(path)
        raise TautError(
            "bad-argument",
            site=spec,
            found="no function named" + (f"; {path.name} has {', '.join(functions)}" if functions else ""),
            expected=_FORM,
            remedy=f"python -m taut fit {path}:{(functions or ['FUNCTION'])[0]}",
        )
    module = _execute(path)
    model = getattr(module, name, None)
    if not callable(model):
        functions = [key for key, value in vars(module).items() if _is_function(key, value, module)]
        near = difflib.get_close_matches(name, functions, 1)
        raise TautError(
            "model-missing",
            site=spec,
            found=f"{name!r} is {type(model).__name__}, not a function" if hasattr(module, name) else f"no {name!r}",
            expected=f"one of the functions there: {', '.join(functions)}"
            if functions
            else f"a function in {path.name}",
            remedy=f"did you mean {path}:{near[0]}?" if near else "name a function of the file",
        )
    return model, path


def broken(error: BaseException, path: Path, doing: str) -> TautError | None:
    """What an error raised by the user's own code says, and the line of ``path`` it came through.

    Args:
        error: the exception.
        path: the model's file.
        doing: what was going on, for the sentence.

    Returns:
        The refusal, or None if no line of ``path`` was involved: then the error is not the user's.
    """
    here = str(path.resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == here]
    where = f"{path}:{lines[-1]}" if lines else ""
    if isinstance(error, SyntaxError) and error.filename:  # the line that cannot be read is in no frame
        where = f"{path if error.filename == here else error.filename}:{error.lineno}"
    if not where:
        return None
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return TautError(
        "model-broken",
        site=where,
        found=f"{type(error).__name__}{': ' if text else ''}{text}",
        expected=f"{doing} without an error",
        remedy=f"mend line {where.rpartition(':')[2]}",
    )


def _check(spec: str, path: Path) -> None:
    if path.is_file() and path.suffix == ".py":
        return
    if path.is_file():
        raise TautError(
            "file-format",
            site=spec,
            found=f"a file {path.name!r}",
            expected=_FORM,
            remedy="write the model in a .py file",
        )
    names = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 1)
    raise TautError(
        "file-missing",
        site=spec,
        found=f"{str(path)!r} is a folder" if path.is_dir() else f"no file {str(path)!r}",
        expected=_FORM,
        remedy=f"did you mean {path.parent / near[0]}?" if near else "give the path of a file that exists",
    )


def _execute(path: Path) -> ModuleType:
    real = path.resolve()
    stem = re.sub(r"\W", "_", real.stem)
    name = f"_taut_model_{stem}_{hashlib.sha256(str(real).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise TautError("file-format", site=str(path), found="no Python", expected=_FORM, remedy="give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up while they are made
    sys.path.insert(0, str(real.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        refusal = broken(error, path, "a file that loads")
        if refusal is None:  # raised before its first line: undecodable text, null bytes, no permission
            found = f"{type(error).__name__}: {' '.join(str(error).split())}"
            refusal = TautError(
                "file-format", site=str(path), found=found, expected="Python text", remedy="mend the file"
            )
        raise refusal from error
    finally:
        if str(real.parent) in sys.path:
            sys.path.remove(str(real.parent))
    return module


def _is_function(key: str, value: Any, module: ModuleType) -> bool:
    return callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module.__name__


def _functions_in_source(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
