"""The command line: a fit from files, and every mistake one line that says what was found and what was expected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import taut
import taut.data
from taut._errors import TautError
from taut.cli import main
from taut.cli._doctor import NEEDED, OPTIONAL

ROOT = Path(__file__).parents[2]
SCHOOLS = ROOT / "examples" / "eight_schools.py"
DATA = ROOT / "examples" / "data" / "eight_schools.json"


@pytest.fixture
def say(capsys):
    """Run the command line; give back exit code, stdout and the lines of stderr."""

    def run(*argv):
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err.splitlines()

    return run


class FakedFit:
    """A stand-in for the fit, where only what the command line does around it is in question."""

    def __init__(self):
        self.level = "trusted"
        self.calls = []

    def __call__(self, model, data, key=0, precision=None):
        result = model(**data)
        self.calls.append(SimpleNamespace(data=data, key=key, precision=precision, result=result))
        return SimpleNamespace(
            verdict=SimpleNamespace(level=self.level),
            save=lambda path: Path(path).write_text("saved"),
            report=lambda path: Path(path).write_text("report"),
        )


@pytest.fixture
def faked(monkeypatch):
    fit = FakedFit()
    monkeypatch.setattr(taut, "fit", fit, raising=False)
    return fit


@pytest.fixture
def script(tmp_path):
    def write(text, name="model.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def one_line(result):
    code, out, err = result
    assert (code, out, len(err)) == (2, "", 1), result
    return err[0]


# -- what reaches the fit --------------------------------------------------------------------------------------------


def test_columns_become_arguments(say, faked, tmp_path, script):
    model = script("def model(n, y, x=None):\n    return n, y, x\n")
    (tmp_path / "d.json").write_text('{"n": 2, "y": [1.5, 2.5]}')
    outputs = ["--save", tmp_path / "out.taut", "--report", tmp_path / "out.html"]
    code, out, err = say(
        "fit", f"{model}:model", "--data", tmp_path / "d.json", "--key", 7, "--precision", "float32", *outputs
    )
    assert (code, err) == (0, [])
    (call,) = faked.calls
    assert (call.key, call.precision) == (7, "float32")
    assert call.data["n"] == 2 and type(call.data["n"]) is int
    np.testing.assert_array_equal(call.data["y"], [1.5, 2.5])
    assert (tmp_path / "out.taut").read_text() == "saved" and (tmp_path / "out.html").read_text() == "report"
    assert str(tmp_path / "out.taut") in out and str(tmp_path / "out.html") in out


@pytest.mark.parametrize(
    ("level", "expected"), [("trusted", 0), ("trusted after correction", 0), ("not trusted", 3), ("unverified", 3)]
)
def test_the_exit_code_is_the_verdict(say, faked, script, level, expected):
    faked.level = level
    assert say("fit", f"{script('def model(): pass')}:model")[0] == expected


def test_the_model_file_runs_apart(say, faked, script, monkeypatch):
    script("value = 41\n", "beside_the_model.py")
    model = script(
        "from __future__ import annotations\n"
        "import sys\n"
        "from dataclasses import dataclass\n"
        "import beside_the_model\n"
        "@dataclass\n"
        "class Options:\n"
        "    size: int = 1\n"
        "def model():\n"
        "    return beside_the_model.value + Options().size, __name__, sys.path\n",
        "numpy.py",  # the name of an installed package: it must not replace it
    )
    before = list(sys.path)
    code, _, err = say("fit", f"{model}:model")
    assert (code, err) == (0, [])
    value, name, path = faked.calls[0].result
    assert value == 42 and name.startswith("_taut_model_numpy_")
    assert path == before == sys.path
    assert sys.modules["numpy"] is np
    monkeypatch.delitem(sys.modules, "beside_the_model")


# -- the whole way ---------------------------------------------------------------------------------------------------


def test_eight_schools_from_files_to_a_saved_fit(say, tmp_path):
    model = tmp_path / "eight_schools.py"
    model.write_text(SCHOOLS.read_text())
    saved, page = tmp_path / "out.taut", tmp_path / "out.html"
    code, out, err = say("fit", f"{model}:schools", "--data", DATA, "--save", saved, "--report", page)
    assert code == 0, (out, err)
    assert page.read_text().lstrip().lower().startswith("<!doctype html")
    model.unlink()  # showing a fit takes neither its model nor its data
    code, shown, _ = say("show", saved)
    assert code == 0 and shown in out
    fit = taut.load(saved)
    mean, sd = mu_by_quadrature()
    # A verdict of "trusted" promises means within 0.1 sd and sds within 10 %.
    assert abs(float(fit["mu"].mean) - mean) < 0.1 * sd
    assert abs(float(fit["mu"].sd) / sd - 1) < 0.1


def mu_by_quadrature():
    """Mean and sd of mu: theta integrates out, mu given tau is normal, and a grid over log tau does the rest."""
    table = taut.data.read_table(DATA)
    y, sigma = table["y"][None], table["sigma"][None]
    tau = np.exp(np.linspace(-12, 8, 20_001))[:, None]
    variance = sigma**2 + tau**2
    precision = 1 / 25 + (1 / variance).sum(1)
    centre = (y / variance).sum(1) / precision
    log_y = -0.5 * (np.log(variance).sum(1) + np.log(25 * precision) + (y**2 / variance).sum(1) - precision * centre**2)
    log_weight = (
        log_y - np.log1p((tau[:, 0] / 5) ** 2) + np.log(tau[:, 0])
    )  # half-Cauchy prior, and d tau = tau d log tau
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ centre
    return mean, np.sqrt(weight @ (1 / precision + (centre - mean) ** 2))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('{"sigma": [1], "yy": [1]}', ["'yy'", "sigma, y"]),
        ('{"sigm": [1], "y": [1]}', ["'sigm'", "'sigma'"]),
        ("{}", ["'sigma'"]),
    ],
)
def test_wrong_columns(say, tmp_path, table, words):
    (tmp_path / "d.json").write_text(table)
    line = one_line(say("fit", f"{SCHOOLS}:schools", "--data", tmp_path / "d.json"))
    assert all(word in line for word in words), line


def test_files_that_are_no_fit(say, tmp_path):
    for path, words in {tmp_path / "none.taut": "no such file", DATA: "JSON"}.items():
        line = one_line(say("show", path))
        assert str(path) in line and words in line


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_wrong_data_files(say, tmp_path):
    (tmp_path / "d.csv").write_text("y,name\n1,Bob\n")
    (tmp_path / "d.json").write_text("{")
    for path, words in {
        DATA.with_name("eight_school.json"): ["no such file", str(DATA)],
        tmp_path / "d.xlsx": ["no such file", ".json, .csv, .parquet or .npz"],
        tmp_path / "d.json": ["not JSON", "expected JSON"],
        tmp_path / "d.csv": ["name", "'Bob' in row 1", "expected numbers"],
    }.items():
        line = one_line(say("fit", f"{SCHOOLS}:schools", "--data", path))
        assert all(word in line for word in words), line


def test_wrong_model_names(say, script, tmp_path):
    model = script("from math import sqrt\nlevels = [1]\ndef schools(): pass\ndef radon(): pass\ndef _own(): pass\n")
    (tmp_path / "model.txt").write_text("")
    for spec, words in {
        f"{model}:school": ["no 'school'", "schools, radon", "did you mean", ":schools"],
        f"{model}:levels": ["'levels' is list", "schools, radon"],
        f"{model}": ["no function named", "schools, radon", "FILE.py:FUNCTION"],
        f"{model}:": ["no function named", "FILE.py:FUNCTION"],
        f"{tmp_path / 'modle.py'}:schools": ["no file", "did you mean", "model.py"],
        f"{tmp_path / 'model.txt'}:schools": ["model.txt", "FILE.py:FUNCTION"],
        f"{tmp_path}:schools": ["is a folder", "FILE.py:FUNCTION"],
    }.items():
        line = one_line(say("fit", spec))
        assert all(word in line for word in words), line
        assert "_own" not in line and "sqrt" not in line


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1\nimport not_a_package\n", 2, "ModuleNotFoundError: No module named 'not_a_package'"),
        ("def f():\n    raise ValueError('two\\n  lines')\nf()\n", 2, "ValueError: two lines"),
        ("def model(:\n", 1, "SyntaxError: "),
        ("import sys\n\nsys.exit('usage: none')\n", 3, "SystemExit: usage: none"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("assert False\n", 1, "AssertionError"),
        ("raise ValueError('x' * 10_000)\n", 1, "..."),
    ],
)
def test_a_model_file_that_raises(say, script, text, line, words):
    before, modules = list(sys.path), set(sys.modules)
    path = script(text)
    said = one_line(say("fit", f"{path}:model"))
    assert f"{path}:{line}: " in said and words in said and len(said) < 700
    assert sys.path == before
    assert not [name for name in set(sys.modules) - modules if name.startswith("_taut_model")]


def test_a_model_file_that_is_not_text(say, tmp_path):
    (tmp_path / "model.py").write_bytes(b"\x00\xff")
    assert str(tmp_path / "model.py") in one_line(say("fit", f"{tmp_path / 'model.py'}:model"))


def test_a_model_that_raises_in_the_fit(say, faked, script):
    path = script("import json\ndef model():\n    return json.loads('{')\n")
    said = one_line(say("fit", f"{path}:model"))
    assert f"{path}:3: " in said and "JSONDecodeError" in said


def test_a_refusal_of_the_fit_is_printed_whole(say, script, monkeypatch):
    error = TautError("data-shape", site="y", found="(3,)", expected="(8,)", remedy="y = y[:8]")

    def fit(model, data, key, precision):
        raise error

    monkeypatch.setattr(taut, "fit", fit, raising=False)
    code, out, err = say("fit", f"{script('def model(): pass')}:model")
    assert (code, out, err) == (2, "", str(error).splitlines())


def test_a_fault_of_our_own_is_told_from_the_users(say, script, monkeypatch):
    def fit(model, data, key, precision):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(taut, "fit", fit, raising=False)
    path = script("def model(): pass")
    code, _, err = say("fit", f"{path}:model")
    assert code == 1 and len(err) == 1 and "ZeroDivisionError: ours" in err[0]
    with pytest.raises(ZeroDivisionError):
        main(["fit", f"{path}:model", "--debug"])


def test_interrupted(say, script, monkeypatch):
    def fit(model, data, key, precision):
        raise KeyboardInterrupt

    monkeypatch.setattr(taut, "fit", fit, raising=False)
    assert say("fit", f"{script('def model(): pass')}:model") == (130, "", ["taut: interrupted"])


def test_outputs_are_checked_before_the_fit(say, faked, script, tmp_path):
    path = script("def model(): pass")
    for options, words in [
        (["--report", tmp_path / "no" / "out.html"], "no folder"),
        (["--save", tmp_path], "a folder"),
        (["--save", path], "reads or writes already"),
        (["--save", tmp_path / "a", "--report", tmp_path / "a"], "reads or writes already"),
    ]:
        assert words in one_line(say("fit", f"{path}:model", *options))
    assert faked.calls == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "COMMAND"),
        (["fti"], "'fti'"),
        (["fit"], "FILE.py:FUNCTION"),
        (["fit", "m.py:f", "--key", "-1"], "--key"),
        (["fit", "m.py:f", "--key", "1.5"], "expected a whole number"),
        (["fit", "m.py:f", "--precision", "half"], "float32"),
        (["fit", "m.py:f", "--sav", "x"], "--sav"),
        (["show"], "OUT.taut"),
    ],
)
def test_wrong_options(say, argv, words):
    line = one_line(say(*argv))
    assert words in line and line.startswith("taut: ") and "--help" in line


# -- the rest --------------------------------------------------------------------------------------------------------


def test_help_says_what_the_exit_codes_mean(say):
    for argv in (["--help"], ["fit", "--help"]):
        code, out, _ = say(*argv)
        assert code == 0
        assert re.search(r'^  3 .*finished.*"not trusted"', out, re.MULTILINE | re.DOTALL)


def test_version(say):
    assert f'__version__ = "{taut.__version__}"' in (ROOT / "src" / "taut" / "__init__.py").read_text()
    assert say("--version") == (0, f"taut {taut.__version__}\n", [])


def test_the_doctor_knows_every_dependency(say):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.split(r"[^\w-]", line)[0] for line in requirements}

    assert names(project["dependencies"]) | {"jaxlib"} == set(NEEDED)
    for package, (extra, _) in OPTIONAL.items():
        assert package in names(project["optional-dependencies"][extra])
    code, out, err = say("doctor")
    assert (code, err) == (0, [])
    assert f"numpy        {np.__version__}\n" in out and "float64 on this device: works" in out and "cpu:0" in out


def test_the_doctor_finds_what_is_missing(say, monkeypatch):
    monkeypatch.setattr("taut.cli._doctor.NEEDED", ("numpy", "no-such-package-of-taut"))
    code, out, _ = say("doctor")
    assert code == 1 and "MISSING: pip install no-such-package-of-taut" in out


def test_a_process_without_unicode_and_without_a_reader(tmp_path):
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "taut", "fit", f"{tmp_path / 'θ.py'}:model"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "?.py" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "taut", "--version"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=env)
    os.close(writer)
    assert "Traceback" not in done.stderr
