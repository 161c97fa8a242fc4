"""What `make demo` runs: two hierarchical models, fitted, printed, and reported as pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import statsmodels.api as sm
from eight_schools import schools

import taut
from taut import dist

OUT = Path(__file__).resolve().parent.parent / "demo"

# Rubin (1981): estimated effects of coaching in eight schools, and their standard errors.
SCHOOLS = dict(y=[28, 8, -3, 7, -1, 1, 18, 12], sigma=[15, 10, 16, 11, 9, 11, 10, 18])


def panel(firm, value, capital, firms, invest=None):
    """Investment of a firm from its market value and its stock of capital: intercept and slope vary by firm."""
    intercept = taut.sample("intercept", dist.Normal(4.0, 2.0))
    by_value = taut.sample("by_value", dist.Normal(0.0, 1.0))
    by_capital = taut.sample("by_capital", dist.Normal(0.0, 1.0))
    spread = taut.sample("spread", dist.LogNormal(-1.0, 0.7).expand([2]).to_event(1))
    sigma = taut.sample("sigma", dist.HalfNormal(1.0))
    with taut.plate("firms", firms):
        level = taut.sample("level", dist.Normal(intercept, spread[0]))
        slope = taut.sample("slope", dist.Normal(by_capital, spread[1]))
    with taut.plate("rows", len(firm)):
        mean = level[firm] + by_value * value + slope[firm] * capital
        taut.sample("invest", dist.StudentT(4.0, mean, sigma), obs=invest)


def grunfeld() -> dict:
    """Grunfeld's panel, 11 firms over 20 years, on log scales; the predictors standardised."""
    table = sm.datasets.grunfeld.load_pandas().data
    names, firm = np.unique(table["firm"], return_inverse=True)

    def standardised(column: str) -> np.ndarray:
        log = np.log(table[column].to_numpy())
        return (log - log.mean()) / log.std()

    return dict(
        firm=firm,
        value=standardised("value"),
        capital=standardised("capital"),
        invest=np.log(table["invest"].to_numpy()),
        firms=len(names),
    )


def main() -> None:
    """Fit both, print both, write both pages."""
    OUT.mkdir(exist_ok=True)
    for title, model, data in (
        ("Eight schools", schools, SCHOOLS),
        ("Investment of eleven firms (Grunfeld)", panel, grunfeld()),
    ):
        print(f"\n{title}\n{'=' * len(title)}\n")
        fit = taut.fit(model, data)
        print(fit)
        print(f"\npage: {fit.report(OUT / f'{model.__name__}.html')}")


if __name__ == "__main__":
    main()
