"""The page: well-formed, self-contained, escaped, in the reader's colours, with the figures of the text."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest

from taut.report import LEVELS, Content, SiteDraws, html, notebook, text

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Checks that tags close in order; collects ids, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, k, v or "") for k, v in attrs]
        self.ids += [v for k, v in attrs if k == "id" and v]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not {"style", "defs"} & set(self.open):
            self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture(params=["hierarchy", "awkward"])
def content(request: pytest.FixtureRequest) -> Content:
    return request.getfixturevalue(request.param)


def test_the_page_is_well_formed_and_needs_nothing_else(content: Content):
    page = html(content)
    reader = read(page)
    written = re.sub(r"base64,[\w+/=\s]+", "", page)  # pictures may spell anything
    assert not re.search(r"https?:|//\w|@import|<script|javascript:", written)
    for tag, name, value in reader.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:40])
        assert not name.startswith("on"), (tag, name)
    assert len(reader.ids) == len(set(reader.ids))
    inside = {v[1:] for _, k, v in reader.attributes if k == "href" and v.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert inside <= set(reader.ids)


def test_names_are_escaped_everywhere(awkward: Content):
    for page in (html(awkward), notebook(awkward)):
        words = "".join(read(page).words)
        for name in ("<b>", "東京", "cost$ in $", "two\\nlines", "<script>alert(1)</script> & co", "<KL>", 'on"click='):
            assert name in words, name
        assert "<b>mass" not in page
        assert "<i>" not in page


def test_colours_follow_the_scheme(hierarchy: Content):
    page = html(hierarchy)
    pictures = page.split("</style>", 1)[1]
    assert not re.findall(r"(?:fill|stroke|color): ?#[0-9a-f]{3,6}", pictures)
    variables = set(re.findall(r"var\(--([a-z]+)\)", page))
    for scheme in re.findall(r"\{ *(--paper.*?)\}|(--paper: #15.*?)\}", page.replace("\n", " ")):
        defined = set(re.findall(r"--([a-z]+):", "".join(scheme)))
        assert variables - {"tone"} <= defined
    assert page.count("--paper:") == 3  # light, dark, paper


@pytest.mark.parametrize("level", LEVELS)
def test_the_verdict_is_told_in_words(hierarchy: Content, level: str):
    content = dataclasses.replace(hierarchy, level=level, sites={"mu": hierarchy.sites["mu"]}, history=None)
    for page in (html(content), notebook(content)):
        words = "".join(read(page).words)
        assert level in words
        assert words.index(level) < words.index("mu")


def test_the_page_shows_the_figures_of_the_text(hierarchy: Content):
    page = html(hierarchy)
    plain = next(line.split() for line in text(hierarchy).splitlines() if line.startswith("tau "))
    cells = re.search(r">tau</th>(.*?)</tr>", page)
    assert cells is not None
    shown = [c.strip("\u2007\u2008 ").replace("−", "-") for c in re.findall(r"<td>([^<]*)</td>", cells.group(1))]
    assert shown[:5] == plain[1:]


def test_shift_and_ratio_compare_the_guide_with_its_reweighting(hierarchy: Content):
    x, lw = hierarchy.sites["tau"].values, np.asarray(hierarchy.log_weights)
    w = np.exp(lw - np.logaddexp.reduce(lw))
    mean = np.average(x, weights=w)
    shift, ratio = (mean - x.mean()) / x.std(), np.sqrt(np.average((x - mean) ** 2, weights=w)) / x.std()
    small = dataclasses.replace(hierarchy, sites={"tau": hierarchy.sites["tau"]})
    row = re.search(r">tau</th>(.*?)</tr>", html(small))
    assert row is not None
    cells = [c.strip("\u2007\u2008 ").replace("−", "-") for c in re.findall(r"<td>([^<]*)</td>", row.group(1))]
    assert [float(cells[5]), float(cells[6])] == pytest.approx([shift, ratio], abs=0.005001)
    assert "sd ratio" not in html(dataclasses.replace(small, log_weights=None, covers="q"))


def test_no_sites_and_no_history_is_a_page_too():
    page = html(Content("empty", "unverified", "Nothing ran."))
    words = "".join(read(page).words)
    assert "no history of the objective" in words
    assert "no importance weights were computed" in words


def test_pictures_leave_no_trace(hierarchy: Content):
    before = dict(mpl.rcParams)
    small = dataclasses.replace(hierarchy, sites={name: hierarchy.sites[name] for name in ("mu", "tau")})
    first = html(small)
    assert dict(mpl.rcParams) == before
    assert html(small) == first  # the same content, the same bytes
    program = (
        "import sys, numpy as np\n"
        "from taut.report import Content, SiteDraws, html\n"
        "html(Content('a', 'trusted', 'b', sites={'x': SiteDraws('latent', np.arange(9.0))}))\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_long_pages_stay_small():
    """A thousand latents: the page lists and draws a part of them, and says which."""
    draws = np.random.default_rng(0).normal(size=(500, 1000))
    page = html(Content("big", "unverified", "?", sites={"w": SiteDraws("latent", draws)}))
    assert len(page) < 1_000_000
    words = "".join(read(page).words)
    assert "24 of 1,000 scalars shown" in words
    assert "the first 400 drawn" in words
    assert "... 992 more" in words
