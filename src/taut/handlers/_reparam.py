"""reparam: say by which numbers on the real line latents are found."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from taut._errors import TautError
from taut.core import Frame, Handler, Site, frames, user_line
from taut.handlers._strategies import Circular, LocScale, ProjectedNormal, Reparam, Transformed, automatic
from taut.handlers._values import condition

AUTO = "auto"

Config = Mapping[str, Any] | Callable[[Site], Any] | str


class reparam(Handler):
    """Find latents by other numbers on the real line: the same posterior, in coordinates that suit it better.

    The latent stays a latent of the model, under its name and in its space: summaries, predictions, guides written by
    hand, `condition` and `substitute` see no difference. A latent that is given a value is left alone.

    Args:
        fn: the program.
        config: strategies by site name; a function of the site that returns one or ``None``; or ``"auto"``, which
            takes for each site what suits its family: the base of a `TransformedDistribution`, the steps of a
            random walk, the plane for angles, and for hierarchies the centredness that the algorithm finds.

    Raises:
        TautError: ``site-missing`` for a name that the program does not have, ``bad-combination`` for a strategy that
            does not fit its site or whose site is observed, ``bad-argument`` for what is no strategy.

    Example:
        >>> import taut
        >>> from taut import dist
        >>> def model(y):
        ...     tau = taut.sample("tau", dist.LogNormal(0.0, 1.0))
        ...     with taut.plate("rows", len(y)):
        ...         theta = taut.sample("theta", dist.Normal(0.0, tau))
        ...         taut.sample("y", dist.Normal(theta, 1.0), obs=y)
        >>> config = {"theta": taut.handlers.LocScale(0.0)}
        >>> fit = taut.fit(taut.handlers.reparam(model, config), dict(y=np.array([0.3, -0.1])), verify=False)
        >>> fit.sites
        ('tau', 'theta')
    """

    def __init__(self, fn: Callable[..., Any] | None = None, config: Config | None = None):
        super().__init__(fn)
        if isinstance(config, Mapping):
            config = {name: _strategy(name, value) for name, value in config.items()}
        elif config != AUTO and not callable(config):
            raise TautError(
                "bad-argument",
                site="reparam",
                source=user_line(),
                found=f"config={config!r}",
                expected='strategies by site name, a function of the site, or "auto"',
                remedy='taut.handlers.reparam(model, "auto")',
            )
        self.config: Any = config

    def begin(self) -> Frame:
        """A run of its own, which knows the sites that it has met."""
        return _Run(self, self.config)

    def __exit__(self, *exc: object) -> None:
        """Leave the program, and refuse names in the config that it does not have."""
        own = [frame for frame in frames() if isinstance(frame, _Run) and frame.owner is self]
        super().__exit__(*exc)
        if own and exc[0] is None:
            own[-1].check()


class _Run(Frame):
    def __init__(self, owner: reparam, config: Any):
        self.owner, self.config = owner, config
        self.met: dict[str, None] = {}

    def before(self, site: Site) -> Site:
        if site.kind == "plate":
            return site
        self.met[site.name] = None
        self._refuse_data(site)
        if not site.latent or site.value is not None or site.coordinate is not None:
            return site
        if isinstance(self.config, Mapping):
            found = self.config.get(site.name)
        elif callable(self.config):
            found = self.config(site)
            found = None if found is None else _strategy(site.name, found)
        else:
            found = automatic(site.fn)
        return site if found is None else replace(site, coordinate=found)

    def _refuse_data(self, site: Site) -> None:
        """Refuse a strategy for an observed site; one that `condition` gives a value is left alone."""
        named = isinstance(self.config, Mapping) and site.name in self.config
        if not named or not site.observed or any(isinstance(f, condition) and site.name in f.data for f in frames()):
            return
        raise TautError(
            "bad-combination",
            site=site.name,
            source=site.source,
            found=f"a strategy of taut.handlers.reparam for {site.name!r}, which is observed",
            expected="names of latents: data are at their values, whatever the coordinates",
            remedy=f"leave {site.name!r} out of the config",
        )

    def check(self) -> None:
        """Refuse names that no site had."""
        absent = [n for n in self.config if n not in self.met] if isinstance(self.config, Mapping) else []
        if not absent:
            return
        close = difflib.get_close_matches(absent[0], self.met, 1)
        raise TautError(
            "site-missing",
            site=absent[0],
            found=f"a strategy for {absent[0]!r}; the program has {', '.join(self.met) or 'no sites'}",
            expected="names of the program's latents",
            remedy=f"did you mean {close[0]!r}?" if close else f"leave {absent[0]!r} out of the config",
        )


# Strategies of NumPyro's, by the names of their classes, as taut's.
_NUMPYROS: dict[str, Callable[[Any], Reparam]] = {
    "LocScaleReparam": lambda given: LocScale("learned" if given.centered is None else given.centered),
    "TransformReparam": lambda given: Transformed(),
    "CircularReparam": lambda given: Circular(),
    "ProjectedNormalReparam": lambda given: ProjectedNormal(),
}


def _strategy(name: str, given: Any) -> Reparam:
    if isinstance(given, Reparam):
        return given
    kind = type(given)
    if kind.__module__.startswith("numpyro.") and kind.__name__ in _NUMPYROS:
        return _NUMPYROS[kind.__name__](given)
    raise TautError(
        "bad-argument",
        site=name,
        source=user_line(),
        found=f"{given.__name__ if isinstance(given, type) else kind.__name__} as a strategy for {name!r}",
        expected="LocScale, Transformed, Folded, Circular, ProjectedNormal, Conjugate, Haar or DCT of taut.handlers",
        remedy=f'taut.handlers.reparam(model, {{"{name}": taut.handlers.LocScale(0.0)}})',
    )
