"""Self-contained pages: pictures are inline SVG, and every text is escaped."""

import io
import re

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from din_model.evaluation import plots

SCALES = 0.9, 1.25
"""Text of 10 points is 12 to 17 pixels high then."""


def render(template: str, **values: object) -> str:
    """Fill in a template of this folder."""
    loader = PackageLoader("pipelines.reports", "")
    page = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"number": number, "duration": duration, "share": share, "wrapping": wrapping}
    return page.get_template(template).render(values)


def number(value: float | None) -> str:
    """Format a number for people: 45,255, 0.2051, and a dash for None."""
    if value is None or value != value:
        return "-"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Format a duration for people: 12 s, 4 min 5 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def share(part: float, whole: float) -> str:
    """Format a share for people: 99.8%, and never 0.0% of what is there."""
    percent = 100 * part / (whole or 1)
    return "< 0.1%" if 0 < percent < 0.05 else f"{percent:.1f}%"


def wrapping(name: str) -> Markup:
    """Let a long name such as null.item_category break after its points and underscores."""
    return Markup(re.sub(r"([._])(?=\w)", r"\1<wbr>", str(escape(name))))  # noqa: S704 (escaped)


def svg(figure: Figure, name: str) -> Markup:
    """Return a figure as inline SVG: black takes the page's text colour, without a background.

    It is shown at ``SCALES`` of its size, however narrow or wide the page: its text stays readable.

    ``name``: one for each figure of a page, since what is drawn refers to its parts by name.
    """
    for axes in figure.axes:
        if legend := axes.get_legend():
            legend.set_frame_on(False)
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=about)
    text = out.getvalue().partition("<svg")[2].replace("#000000", "currentColor")
    text = text.replace(plots.COLOURS[0].lower(), "var(--mark)")  # as dark as the page is light
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would be the whole page's
    low, high = (f"{scale * figure.get_figwidth():.2f}in" for scale in SCALES)
    head = f'<svg aria-hidden="true" style="min-width: {low}; max-width: {high}"'
    svg = head + re.sub(r'<g id="[^"]*"', "<g", text)
    return Markup(svg)  # noqa: S704 (Matplotlib escapes the text that it draws)
