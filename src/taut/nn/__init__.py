"""Neural networks: modules whose leaves are sites, guides that know their layers, and what to compare them with."""

from taut.dist import ScaleMixture
from taut.guides import Flipout, LocalReparametrisation, MCDropout, MeanFieldNet
from taut.nn._autoencoder import VAE
from taut.nn._autoencoder_views import ActiveUnits
from taut.nn._bayesian import bayesian
from taut.nn._dense import Dense
from taut.nn._held_out import HeldOutRows, held_out
from taut.nn._last_layer import LastLayer, last_layer_laplace
from taut.nn._layers import flipout_linear, local_linear
from taut.nn._likelihoods import (
    BernoulliLikelihood,
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
)
from taut.nn._predictive import Calibration, Uncertainty, calibration, frequencies, log_predictive, uncertainty
from taut.nn._priors import FanIn, Frozen, Horseshoe
from taut.nn._pruning import Pruned, prune, signal_to_noise
from taut.nn._start import AtModule

__all__ = [
    "VAE",
    "ActiveUnits",
    "AtModule",
    "BernoulliLikelihood",
    "Calibration",
    "ContinuousBernoulliLikelihood",
    "Dense",
    "FanIn",
    "Flipout",
    "Frozen",
    "GaussianLikelihood",
    "HeldOutRows",
    "Horseshoe",
    "LastLayer",
    "Likelihood",
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
    "held_out",
    "last_layer_laplace",
    "local_linear",
    "log_predictive",
    "prune",
    "signal_to_noise",
    "uncertainty",
]
