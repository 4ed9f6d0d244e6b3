"""Pages are readable in both colour schemes, on narrow screens, on paper, and by keyboard."""

import re

import pytest
from matplotlib.figure import Figure

from pipelines.reports.html import duration, number, render, share, svg, wrapping
from tests.pages import Page

PAPER, NIGHT = "#ffffff", "#121212"
"""What browsers paint behind a page in the light and in the dark scheme."""


@pytest.fixture(scope="module")
def style() -> str:
    return render("comparison.html.j2", title="t", findings=[], table=[["a"]], pictures={})


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour such as #0072b2 (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_links_and_the_ring_of_the_focus_contrast_with_the_page(style):
    light, dark = re.findall(r"--mark: (#\w{6})", style)
    assert contrast(light, PAPER) >= 4.5
    assert contrast(dark, NIGHT) >= 4.5
    assert re.search(r":focus-visible \{ outline: 3px solid var\(--mark\)", style)


def test_the_colours_of_the_dark_scheme_do_not_reach_paper(style):
    assert re.findall(r"@media ([^{]*prefers-color-scheme: dark\))", style) == [
        "screen and (prefers-color-scheme: dark)"
    ]


def test_paper_cuts_off_no_table_and_no_picture(style):
    paper = style.partition("@media print {")[2]
    assert ".wide, figure > div { overflow: visible; }" in paper
    assert "figure svg { min-width: 0 !important; }" in paper


def test_a_picture_is_not_shrunk_until_its_text_is_illegible():
    [drawn] = [attrs for tag, attrs in Page(svg(Figure((10, 3)), "wide")).tags if tag == "svg"]
    assert drawn["style"] == "min-width: 9.00in; max-width: 12.50in"


def test_a_wide_picture_scrolls_in_its_own_box(style):
    assert "figure > div { overflow-x: auto; }" in style


def test_a_long_name_breaks_at_points_and_underscores_and_stays_harmless():
    assert wrapping("null.item_id") == "null.<wbr>item_<wbr>id"
    assert wrapping("<script>") == "&lt;script&gt;"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (245, "4 min 5 s"), (7800, "2 h 10 min")],
)
def test_a_duration_is_told_in_the_units_of_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"), [(0, "0.0%"), (4, "< 0.1%"), (6, "0.1%"), (9980, "99.8%"), (10000, "100.0%")]
)
def test_a_share_of_a_few_rows_is_not_told_as_none(part, text):
    assert share(part, 10000) == text


@pytest.mark.parametrize(
    ("value", "text"), [(45255, "45,255"), (0.20512, "0.2051"), (1.5, "1.5"), (None, "-")]
)
def test_a_number_is_rounded_for_people(value, text):
    assert number(value) == text
