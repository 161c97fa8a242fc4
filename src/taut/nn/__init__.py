"""Neural networks: modules whose leaves are sites, guides that know their layers, and what to compare them with."""

from taut.dist import ScaleMixture
from taut.guides import Flipout, LocalReparametrisation, MCDropout, MeanFieldNet
from taut.nn._bayesian import bayesian
from taut.nn._last_layer import LastLayer, last_layer_laplace
from taut.nn._layers import flipout_linear, local_linear
from taut.nn._predictive import Calibration, Uncertainty, calibration, frequencies, log_predictive, uncertainty
from taut.nn._priors import FanIn, Frozen, Horseshoe
from taut.nn._pruning import Pruned, prune, signal_to_noise
from taut.nn._start import AtModule

__all__ = [
    "AtModule",
    "Calibration",
    "FanIn",
    "Flipout",
    "Frozen",
    "Horseshoe",
    "LastLayer",
    "LocalReparametrisation",
    "MCDropout",
    "MeanFieldNet",
    "Pruned",
    "ScaleMixture",
    "Uncertainty",
    "bayesian",
    "calibration",
    "flipout_linear",
    "frequencies",
    "last_layer_laplace",
    "local_linear",
    "log_predictive",
    "prune",
    "signal_to_noise",
    "uncertainty",
]
