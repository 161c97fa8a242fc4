"""Text tables, plots, the HTML page, the progress line: they read plain values, never a problem or a fit."""

from __future__ import annotations

from taut.report._content import COVERS as COVERS
from taut.report._content import KINDS as KINDS
from taut.report._content import LEVELS as LEVELS
from taut.report._content import Content as Content
from taut.report._content import History as History
from taut.report._content import SiteDraws as SiteDraws
from taut.report._html import html as html
from taut.report._html import notebook as notebook
from taut.report._plots import forest as forest
from taut.report._plots import marginals as marginals
from taut.report._plots import objective as objective
from taut.report._plots import pairs as pairs
from taut.report._plots import weights as weights
from taut.report._plots_evidence import evidence as evidence
from taut.report._plots_images import as_images as as_images
from taut.report._plots_images import mosaic as mosaic
from taut.report._progress import Progress as Progress
from taut.report._table import text as text
