"""The loader of reference posteriors, on tiny folders made up here in both layouts."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.posteriordb import reference
from benchmarks.posteriordb.reference import LibraryError, find, moments

DATA = {"N": 3, "y": [1.0, 2.5, -4.0]}
CHAINS = [{"a": [1.0, 2.0], "b[1]": [0.0, 4.0]}, {"a": [3.0, 6.0], "b[1]": [4.0, 8.0]}]
DRAWS = np.array([[1.0, 0.0], [2.0, 4.0], [3.0, 4.0], [6.0, 8.0]])  # the chains one after the other


def bundle(folder: Path, name: str, names: list[str]) -> Path:
    for part in ("data", "reference", "draws"):
        (folder / part).mkdir(parents=True)
    told = {"names": names, "mean": [3.0, 4.0], "sd": [2.0, 3.0], "mcse_mean": [0.1, 0.2], "mcse_sd": [0.3, 0.4]}
    for path, content in ((f"data/{name.split('-')[0]}", DATA), (f"reference/{name}", told)):
        with gzip.open(folder / f"{path}.json.gz", "wt") as file:
            json.dump(content, file)
    np.savez(folder / "draws" / f"{name}.npz", draws=DRAWS, names=np.array(["a", "b[1]"]))
    return folder


def checkout(folder: Path, name: str) -> Path:
    root = folder / "posterior_database"
    for path, content in (
        (f"data/data/{name.split('-')[0]}", DATA),
        (f"reference_posteriors/draws/draws/{name}", CHAINS),
    ):
        file = root / f"{path}.json.zip"
        file.parent.mkdir(parents=True)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{Path(path).name}.json", json.dumps(content))
    return folder


def test_bundle_gives_data_moments_and_draws_of_both_parts(tmp_path: Path) -> None:
    bundle(tmp_path, "toy-model", ["a", "b[1]"])
    bundle(tmp_path / "supplement", "extra-model", ["a", "b[1]"])
    library = find(tmp_path)
    for name in ("toy-model", "extra-model"):
        found = library.reference(name)
        assert library.has(name) and library.data(name) == DATA
        assert found.names == ("a", "b[1]")
        np.testing.assert_array_equal(found.draws, DRAWS)
        np.testing.assert_array_equal(found.moments.sd, [2.0, 3.0])  # as told, not recomputed from the fewer draws
        np.testing.assert_array_equal(found.moments.mcse_sd, [0.3, 0.4])
    assert not library.has("other-model")


def test_bundle_whose_draws_name_other_scalars_is_refused(tmp_path: Path) -> None:
    library = find(bundle(tmp_path, "toy-model", ["b[1]", "a"]))
    with pytest.raises(LibraryError, match="name different scalars"):
        library.reference("toy-model")


@pytest.mark.parametrize("inside", [False, True], ids=["root of the clone", "posterior_database"])
def test_checkout_joins_chains_and_computes_moments(tmp_path: Path, inside: bool) -> None:
    folder = checkout(tmp_path, "toy-model")
    library = find(folder / "posterior_database" if inside else folder)
    found = library.reference("toy-model")
    assert library.has("toy-model") and not library.has("other-model")
    assert library.data("toy-model") == DATA
    np.testing.assert_array_equal(found.draws, DRAWS)
    # a: deviations -2, -1, 0, 3: mean 3, variance 14/3; fourth moment (16 + 1 + 81)/4 = 24.5
    np.testing.assert_allclose(found.moments.mean, [3.0, 4.0], rtol=1e-14)
    np.testing.assert_allclose(found.moments.sd, np.sqrt([14 / 3, 32 / 3]), rtol=1e-14)
    np.testing.assert_allclose(found.moments.mcse_mean[0], np.sqrt(14 / 3 / 4), rtol=1e-14)
    kurtosis = 24.5 / (14 / 3) ** 2
    np.testing.assert_allclose(found.moments.mcse_sd[0], np.sqrt(14 / 3 * (kurtosis - 1) / 16), rtol=1e-14)


def test_standard_errors_of_moments_match_repeats() -> None:
    # 2,000 repeats of n = 200 gamma(4) draws: the sd of an sd over repeats is known to 1.6 %, and the formula is the
    # first order in 1/n (a bias of about 3 % at this skewness), hence 8 %.
    repeats = np.random.default_rng(0).gamma(4.0, size=(200, 2000))
    told = moments(repeats)
    assert np.mean(told.mcse_mean) == pytest.approx(told.mean.std(), rel=0.08)
    assert np.sqrt(np.mean(told.mcse_sd**2)) == pytest.approx(told.sd.std(), rel=0.08)


def test_the_folder_named_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argument, variable, beside = (tmp_path / part for part in ("argument", "variable", "beside"))
    for folder in (argument, variable, beside):
        bundle(folder, f"{folder.name}-model", ["a", "b[1]"])
    monkeypatch.setattr(reference, "_BESIDE", beside)
    monkeypatch.delenv("TAUT_POSTERIORDB", raising=False)
    assert find().folder == beside
    monkeypatch.setenv("TAUT_POSTERIORDB", str(variable))
    assert find().folder == variable
    assert find(argument).folder == argument


@pytest.mark.parametrize("there", [False, True], ids=["no folder", "empty folder"])
def test_nothing_there_is_one_line_that_names_the_folder(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "posteriors"
    if there:
        folder.mkdir()
    with pytest.raises(LibraryError) as caught:
        find(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
