"""The text: figures equal NumPy's, digits follow the Monte Carlo error, columns align, nothing is cut in silence."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from taut._errors import TautError
from taut.report import Content, SiteDraws, text
from taut.report._digits import decimals, estimate, row, shorten, width
from taut.report._summary import figures, normalise


def rows_of(page: str) -> dict[str, list[str]]:
    """Label -> cells of every row of the table."""
    lines = page.split("95%\n", 1)[1].split("\n\n")[0].splitlines()
    return {cells[0]: cells[1:] for cells in (line.split() for line in lines) if len(cells) == 6}


def numpy_quantiles(x: np.ndarray, w: np.ndarray | None) -> np.ndarray:
    return np.quantile(x, [0.05, 0.5, 0.95], weights=w, method="inverted_cdf")


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_equal_numpy(weighted: bool):
    r = np.random.default_rng(3)
    x = r.standard_t(4, size=(997, 5))
    found = normalise(r.normal(size=997) * 1.5 - 2000.0) if weighted else None
    w = found.values if found is not None else None
    got = figures(x, w)
    mean = np.average(x, axis=0, weights=w)
    np.testing.assert_allclose(got[:, 0], mean, rtol=1e-12)
    np.testing.assert_allclose(got[:, 1], np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w)), rtol=1e-12)
    for column in range(5):  # a quantile is one of the draws: equal to the last bit
        np.testing.assert_array_equal(got[column, 2:], numpy_quantiles(x[:, column], w))


def test_weights_are_a_stable_softmax_and_ess_is_kish():
    lw = np.array([-1e5, -1e5 + np.log(3.0), -np.inf, np.nan, np.inf])
    found = normalise(lw)
    assert found is not None
    np.testing.assert_allclose(found.values, [0.25, 0.75, 0, 0, 0], rtol=1e-10)
    assert found.ess == pytest.approx(1 / (0.25**2 + 0.75**2))
    assert found.dropped == 2  # -inf is a weight of zero, not a fault
    assert normalise(np.full(3, -np.inf)) is None


def test_a_draw_without_weight_may_be_nan():
    x = np.array([[1.0], [3.0], [np.nan]])
    np.testing.assert_allclose(figures(x, np.array([0.5, 0.5, 0.0]))[0], [2.0, 1.0, 1.0, 1.0, 3.0])
    assert np.isnan(figures(x, None)).all()


def test_rows_show_the_reweighted_figures_to_their_last_digit(hierarchy: Content):
    rows = rows_of(text(hierarchy))
    lw = np.asarray(hierarchy.log_weights)
    w = np.exp(lw - np.logaddexp.reduce(lw))
    draws = {"mu": hierarchy.sites["mu"].values, "tau": hierarchy.sites["tau"].values}
    draws |= {f"theta[{i}]": hierarchy.sites["theta"].values[:, i] for i in range(8)}
    for name, x in draws.items():
        mean = np.average(x, weights=w)
        expected = [mean, np.sqrt(np.average((x - mean) ** 2, weights=w)), *numpy_quantiles(x, w)]
        for cell, value in zip(rows[name], expected, strict=True):
            half = 0.5 * 10.0 ** -len(cell.partition(".")[2])
            assert abs(float(cell) - value) <= half * (1 + 1e-9), (name, cell, value)


def test_guide_draws_are_shown_when_the_table_covers_the_guide(hierarchy: Content):
    plain = text(dataclasses.replace(hierarchy, covers="q"))
    assert "2,000 draws from the guide" in plain
    tau = hierarchy.sites["tau"].values
    assert float(rows_of(plain)["tau"][0]) == pytest.approx(tau.mean(), abs=0.05)
    assert abs(float(rows_of(text(hierarchy))["tau"][0]) - tau.mean()) > 0.2  # the weights do change tau


@pytest.mark.parametrize(
    ("sd", "ess", "places"),
    [
        (3.3, 4000, 2),  # error 0.052: hundredths
        (3.3, 1000, 1),  # error 0.104: tenths
        (3.3, 1e8, 2),  # never more than three digits of the sd
        (3.3, 1, 1),  # never fewer than two
        (0.033, 4000, 4),
        (33000, 4000, -2),
    ],
)
def test_the_last_digit_is_the_first_uncertain_one(sd: float, ess: float, places: int):
    assert decimals(sd, ess) == places


def test_extreme_rows_share_one_exponent():
    assert row([3.1e-8, 1.02e-8, -1.4e-8], 10) == ["3.10e-8", "1.02e-8", "-1.40e-8"]
    assert row([1.2345e9, 3e7], -6) == ["1.234e9", "0.030e9"]
    assert row([1234567.0, 400.0], -1) == ["1234567", "400"]
    assert row([-0.001, 0.5], 2) == ["0.00", "0.50"]  # no minus sign on zero
    assert row([0.73125, 0.0, 0.0], None) == ["0.73125", "-", "-"]
    assert row([np.nan, np.inf], 2) == ["nan", "inf"]


@pytest.mark.parametrize(
    ("value", "se", "unit", "expected"),
    [
        (-31.3193, 0.0042, "", "-31.319 ± 0.004"),
        (0.2013, 0.0123, "nats", "0.201 ± 0.012 nats"),
        (2144.0, None, "", "2,144"),
        (1.314, None, "s", "1.31 s"),
        (123456.7, 1200.0, "", "123,457 ± 1200"),
        (1.5e-7, None, "", "1.5e-7"),
        (-np.inf, 0.1, "", "-inf"),
        (-3.5, np.nan, "", "-3.50 ± ?"),
    ],
)
def test_estimates(value: float, se: float | None, unit: str, expected: str):
    assert estimate(value, se, unit) == expected


def test_decimal_points_stand_under_one_another(hierarchy: Content):
    page = text(hierarchy)
    block = [line for line in page.splitlines() if re.match(r"(mu|tau|theta\[|z\[|pooled)", line)]
    points = {tuple(m.start() for m in re.finditer(r"\.", line)) for line in block}
    assert len(block) == 19
    assert len(points) == 1
    assert len(points.pop()) == 5


def test_wide_names_keep_the_columns(awkward: Content):
    lines = text(awkward).splitlines()
    ends = {
        name: next(width(line) for line in lines if line.startswith(name)) for name in ("東京", "two\\nlines", "<b>")
    }
    assert len(set(ends.values())) == 1, ends


def test_long_sites_are_cut_in_their_middle_and_the_count_is_right(hierarchy: Content):
    page = text(hierarchy)
    shown = [int(i) for i in re.findall(r"^z\[(\d+)\]", page, re.M)]
    assert shown == [0, 1, 2, 3, 4, 87, 88, 89]
    assert page.index("z[4]") < page.index("... 82 more") < page.index("z[87]")
    everything = text(hierarchy, rows=None)
    assert len(re.findall(r"^z\[", everything, re.M)) == 90
    assert len(re.findall(r"^y_hat\[", everything, re.M)) == 60


@pytest.mark.parametrize("rows", [8, 15, 25])
def test_no_scalar_goes_missing_at_any_length(hierarchy: Content, rows: int):
    body = text(hierarchy, rows=rows).split("95%\n", 1)[1].split("\n\n")[0].splitlines()
    left_out = sum(int(n.replace(",", "")) for n in re.findall(r"\.\.\. ([\d,]+) more", "\n".join(body)))
    listed = [line for line in body if len(line.split()) == 6 and "..." not in line]
    assert len(listed) + left_out == 1 + 1 + 8 + 90 + 1 + 1
    assert len(body) <= rows + 8  # kinds, gaps and the last site


def test_many_sites_end_in_a_count():
    sites = {f"a{i}": SiteDraws("latent", np.arange(10.0) + i) for i in range(100)}
    page = text(Content("many", "trusted", "Yes.", sites=sites))
    assert len(re.findall(r"^a\d+ ", page, re.M)) == 40
    assert "... 60 more in further sites" in page


def test_large_deterministic_sites_are_named_in_one_line(hierarchy: Content):
    page = text(hierarchy)
    assert "not listed (deterministic): y_hat (20 x 3)" in page
    assert "y_hat[" not in page
    assert re.search(r"^deterministic:\npooled ", page, re.M)
    assert re.search(r"^param:\nphi +0.73125 +- +- +- +-$", page, re.M)


def test_the_verdict_leads(hierarchy: Content, awkward: Content):
    assert text(hierarchy).startswith("[trusted] schools: The guide matches the posterior.\n\n")
    lines = text(awkward).splitlines()
    assert lines[0] == '[not trusted] <script>alert(1)</script> & co: The "guide" misses <b>mass</b>.'
    assert lines[1] == "  - budget: the run ended on its budget, not on a test"
    assert lines[2] == "  - k-hat 0.93 exceeds 0.7"
    assert lines[4] == "  > taut.fit(model, data, guide='auto')"


def test_an_unfinished_run_says_so_even_when_trusted(hierarchy: Content):
    page = text(dataclasses.replace(hierarchy, status="interrupted"))
    assert page.splitlines()[1] == "  - interrupted: the run was interrupted"


def test_nothing_is_said_twice():
    why = "The run ended on its budget, not on a test, so q may be far from its best."
    content = Content("net", "not trusted", why[0].lower() + why[1:], status="budget", reasons=(why, "Another."))
    lines = text(content).splitlines()
    assert lines == [f"[not trusted] net: {why[0].lower() + why[1:]}", "  - Another."]
    # A reason that adds something stays, and so does an ending of which the headline says nothing.
    other = dataclasses.replace(content, headline="q is off by 3 nats.")
    assert [line[4:] for line in text(other).splitlines()[1:]] == [
        "budget: the run ended on its budget, not on a test",
        why,
        "Another.",
    ]


def test_weights_without_mass_are_not_called_reweighted(hierarchy: Content):
    page = text(dataclasses.replace(hierarchy, log_weights=np.full(2000, -np.inf)))
    assert "draws from the guide, NOT reweighted: no log weight is finite" in page


def test_dropped_weights_are_counted(awkward: Content):
    assert "4 of 600 log weights are NaN or +inf; those draws are left out" in text(awkward)


@pytest.mark.parametrize("columns", [70, 80, 100])
def test_no_line_is_longer_than_the_page(hierarchy: Content, columns: int):
    long = dataclasses.replace(hierarchy, headline="word " * 60, level="not trusted", reasons=("why " * 60,))
    assert max(width(line) for line in text(long, width=columns).splitlines()) <= columns


def test_few_effective_draws_do_not_earn_digits():
    x = np.random.default_rng(0).normal(size=1000)
    lw = np.zeros(1000)
    lw[7] = 60.0  # one draw carries everything: the weighted sd is 1e-12
    page = text(
        Content("one", "not trusted", "No.", sites={"x": SiteDraws("latent", x)}, log_weights=lw, covers="reweighted")
    )
    assert rows_of(page)["x"] == [f"{x[7]:.2f}", "0.00", *[f"{x[7]:.2f}"] * 3]
    assert "(effective 1.0)" in page


def test_names_are_cut_before_their_index():
    cut = shorten("a_name_of_great_length_and_little_use[12,3]", 20)
    assert cut.endswith("..") is False
    assert cut.endswith("..[12,3]")
    assert width(cut) <= 20


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"level": "fine"}, "level"),
        ({"covers": "p"}, "covers"),
        ({"covers": "reweighted", "log_weights": None}, "covers"),
        ({"log_weights": np.zeros(3)}, "mu"),
        ({"sites": {"s": SiteDraws("param", np.array(1.0))}}, "s"),
    ],
)
def test_wrong_contents_are_refused(hierarchy: Content, change: dict[str, Any], named: str):
    with pytest.raises(TautError) as refusal:
        dataclasses.replace(hierarchy, **change)
    assert refusal.value.code == "bad-argument"
    assert refusal.value.site == named


def test_text_and_notebook_load_no_picture_library():
    program = (
        "import sys, numpy as np\n"
        "from taut.report import Content, SiteDraws, notebook, text\n"
        "c = Content('a', 'trusted', 'b', sites={'x': SiteDraws('latent', np.arange(9.0))})\n"
        "text(c), notebook(c)\n"
        "print(sorted({'matplotlib', 'rich', 'pandas', 'arviz'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_weights_of_a_network_are_named_and_not_listed():
    def points(*shape: int) -> SiteDraws:
        return SiteDraws("param", np.zeros((1, *shape)))

    sites = {"net$w": points(16, 64), "net$b": points(64), "scale": points(), "z": SiteDraws("latent", np.ones((9, 2)))}
    shown = text(Content("net", "unverified", "", sites=sites))
    assert "not listed (learned as points): net$w (16 x 64), net$b (64)" in shown.splitlines()
    listed = [line.split()[0] for line in shown.splitlines() if line.startswith(("net$", "scale", "z["))]
    assert listed == ["z[0]", "z[1]", "scale"]
    few = text(Content("few", "unverified", "", sites={"a": points(30)}))
    assert "a[0]" in few and "not listed" not in few
