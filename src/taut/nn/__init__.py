"""Neural networks: modules whose leaves are sites, guides that know their layers, and what to compare them with."""

from taut.dist import ScaleMixture
from taut.guides import Flipout, LocalReparametrisation, MCDropout, MeanFieldNet
from taut.nn._bayesian import bayesian
from taut.nn._layers import flipout_linear, local_linear
from taut.nn._priors import FanIn, Frozen, Horseshoe
from taut.nn._start import AtModule

__all__ = [
    "AtModule",
    "FanIn",
    "Flipout",
    "Frozen",
    "Horseshoe",
    "LocalReparametrisation",
    "MCDropout",
    "MeanFieldNet",
    "ScaleMixture",
    "bayesian",
    "flipout_linear",
    "local_linear",
]
