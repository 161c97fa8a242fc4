"""The list of posteriors: name in posteriordb -> model, reader of its data, supports of the sites that are not real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.posteriordb.models import hierarchical, latent, regression, series


class Posterior(NamedTuple):
    """One posterior.

    Attributes:
        model: the program, a function of the data mapping.
        data: from posteriordb's JSON to the data mapping.
        support: per reported name, what is not the real line: ``positive``, ``unit``, ``ordered``,
            ``positive_ordered``, ``simplex`` or ``interval(a,b)``. It says on which scale errors are measured.
    """

    model: Callable[..., None]
    data: Callable[[dict[str, Any]], Mapping[str, Any]]
    support: Mapping[str, str]


def _linear(data: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Posterior:
    return Posterior(regression.linear, data, {"sigma": "positive"})


_earn, _mesquite = regression.earnings, regression.mesquite
_diameters = ("log(shape)", "log(total_height)")
_trees = ("diam1", "diam2", "canopy_height", "total_height", "density")
_mixture = {"sigma": "positive", "theta": "unit"}
_interval = {"alpha": "interval(-20,20)"} | dict.fromkeys(("beta1", "beta2", "beta3"), "interval(-10,10)")


def _only(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "positive")


POSTERIORS: dict[str, Posterior] = {
    "eight_schools-eight_schools_noncentered": Posterior(
        hierarchical.eight_schools_noncentered, hierarchical.eight_schools_data, _only("tau")
    ),
    "arK-arK": Posterior(series.autoregression, series.autoregression_data, _only("sigma")),
    "arma-arma11": Posterior(series.arma11, series.series_data, _only("sigma")),
    "diamonds-diamonds": Posterior(regression.diamonds, regression.diamonds_data, _only("sigma")),
    "earnings-logearn_interaction": _linear(_earn("log(earn)", "height", "male", "height*male")),
    "gp_pois_regr-gp_regr": Posterior(latent.gp_regr, latent.gp_regr_data, _only("rho", "alpha", "sigma")),
    "mesquite-logmesquite": _linear(_mesquite("log(weight)", *(f"log({t})" for t in _trees), "group")),
    "nes1972-nes": _linear(regression.nes),
    "low_dim_gauss_mix-low_dim_gauss_mix": Posterior(
        latent.low_dim_gauss_mix, series.series_data, {"mu": "ordered", **_mixture}
    ),
    "wells_data-wells_dist": Posterior(regression.wells_dist, regression.wells_dist_data, {}),
    "seeds_data-seeds_stanified_model": Posterior(hierarchical.seeds, hierarchical.seeds_data, _only("sigma")),
    "radon_mn-radon_hierarchical_intercept_centered": Posterior(
        hierarchical.radon, hierarchical.radon_data, _only("sigma_alpha", "sigma_y")
    ),
    "earnings-earn_height": _linear(_earn("earn", "height")),
    "earnings-log10earn_height": _linear(_earn("log10(earn)", "height")),
    "earnings-logearn_height": _linear(_earn("log(earn)", "height")),
    "earnings-logearn_height_male": _linear(_earn("log(earn)", "height", "male")),
    "earnings-logearn_interaction_z": _linear(_earn("log(earn)", "z", "male", "z*male")),
    "earnings-logearn_logheight_male": _linear(_earn("log(earn)", "log(height)", "male")),
    "mesquite-mesquite": _linear(_mesquite("weight", *_trees, "group")),
    "mesquite-logmesquite_logva": _linear(_mesquite("log(weight)", "log(volume)", "log(area)", "group")),
    "mesquite-logmesquite_logvas": _linear(
        _mesquite("log(weight)", "log(volume)", "log(area)", *_diameters, "log(density)", "group")
    ),
    "mesquite-logmesquite_logvash": _linear(_mesquite("log(weight)", "log(volume)", "log(area)", *_diameters, "group")),
    "mesquite-logmesquite_logvolume": _linear(_mesquite("log(weight)", "log(volume)")),
    **{f"nes{year}-nes": _linear(regression.nes) for year in (1976, 1980, 1984, 1988, 1992, 1996, 2000)},
    "wells_data-wells_dae_inter_model": Posterior(regression.wells_dae_inter, regression.wells_dae_inter_data, {}),
    "GLM_Poisson_Data-GLM_Poisson_model": Posterior(regression.glm_poisson, regression.glm_poisson_data, _interval),
    "gp_pois_regr-gp_pois_regr": Posterior(latent.gp_pois_regr, latent.gp_pois_regr_data, _only("rho", "alpha")),
    "hmm_example-hmm_example": Posterior(
        series.hmm, series.series_data, {"theta1": "simplex", "theta2": "simplex", "mu": "positive_ordered"}
    ),
    "hudson_lynx_hare-lotka_volterra": Posterior(
        series.lotka_volterra, series.lotka_volterra_data, _only("theta", "z_init", "sigma")
    ),
    "low_dim_gauss_mix_collapse-low_dim_gauss_mix_collapse": Posterior(
        latent.low_dim_gauss_mix_collapse, series.series_data, _mixture
    ),
}
