"""What q can be: one family per file."""

from taut.guides._amortised import Amortised
from taut.guides._block_dense import BlockDense
from taut.guides._combine import Combine
from taut.guides._dais import DAIS
from taut.guides._dependencies import Shift
from taut.guides._flow import Flow
from taut.guides._gaussian import Delta, FullRank, MeanField
from taut.guides._guide import MODEL, Flat, Guide, NoiseGuide, Point, with_model
from taut.guides._local import wide_dim, wide_layout
from taut.guides._low_rank import LowRank
from taut.guides._mixture import GaussianMixture
from taut.guides._net import MCDropout, MeanFieldNet
from taut.guides._noise import Flipout, LocalReparametrisation
from taut.guides._products import Spread
from taut.guides._program import Program, bind
from taut.guides._semi_amortised import SemiAmortised
from taut.guides._site_families import SiteFamilies
from taut.guides._sparse_precision import SparsePrecision
from taut.guides._start import At, FromData, Mode, PriorMedian, PriorSample, Start, learned
from taut.guides._structured import Structured
from taut.guides._student_t import StudentT
from taut.guides._unconstrain import unconstrain

__all__ = [
    "DAIS",
    "MODEL",
    "Amortised",
    "At",
    "BlockDense",
    "Combine",
    "Delta",
    "Flat",
    "Flipout",
    "Flow",
    "FromData",
    "FullRank",
    "GaussianMixture",
    "Guide",
    "LocalReparametrisation",
    "LowRank",
    "MCDropout",
    "MeanField",
    "MeanFieldNet",
    "Mode",
    "NoiseGuide",
    "Point",
    "PriorMedian",
    "PriorSample",
    "Program",
    "SemiAmortised",
    "Shift",
    "SiteFamilies",
    "SparsePrecision",
    "Spread",
    "Start",
    "Structured",
    "StudentT",
    "bind",
    "learned",
    "unconstrain",
    "wide_dim",
    "wide_layout",
    "with_model",
]
