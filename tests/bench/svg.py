# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plots as SVG, without any library."""

from xml.sax.saxutils import escape

COLORS = ("#888888", "#c0392b", "#e67e22", "#2980b9", "#27ae60", "#8e44ad", "#16a085")
STYLE = "font-family='sans-serif' font-size='12'"


def rounded(top):
    """What the axis ends at."""
    step = 10 ** (len(str(int(top))) - 1) if top >= 1 else 1
    return step * (int(top / step) + 1)


def label(n):
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}k" if n >= 1e3 else f"{n:g}"


def document(width, height, title, parts):
    return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' {STYLE}>\n"
            f"<rect width='{width}' height='{height}' fill='white'/>\n<text x='10' y='20' font-weight='bold'>{escape(title)}</text>\n" +
            "\n".join(parts) + "\n</svg>\n")


def bars(title, values):
    """A horizontal bar for each name."""
    top, parts = rounded(max(values.values())), []
    for i, (name, value) in enumerate(values.items()):
        y, width = 36 + i * 22, 380 * value / top
        color = COLORS[0] if name.startswith("raw") else COLORS[1] if name.startswith("objmapper") else COLORS[3]
        parts += [f"<text x='215' y='{y + 12}' text-anchor='end'>{escape(name)}</text>",
                  f"<rect x='222' y='{y}' width='{width:.1f}' height='16' fill='{color}'/>",
                  f"<text x='{226 + width:.1f}' y='{y + 12}'>{value:.1f}</text>"]
    return document(680, 46 + 22 * len(values), title, parts)


def lines(title, xs, series):
    """A line for each name, its values by x; the axis of x has a step for each."""
    top = rounded(max(max(values) for values in series.values()))
    places = [80 + i * 380 / (len(xs) - 1) for i in range(len(xs))]
    parts = []
    for i in range(5):
        y = 290 - i * 62
        parts += [f"<line x1='70' y1='{y}' x2='470' y2='{y}' stroke='#dddddd'/>",
                  f"<text x='64' y='{y + 4}' text-anchor='end'>{label(top * i / 4)}</text>"]
    parts += [f"<text x='{place:.0f}' y='310' text-anchor='middle'>{x}</text>" for place, x in zip(places, xs)]
    for i, (name, values) in enumerate(series.items()):
        points = " ".join(f"{place:.1f},{290 - 248 * value / top:.1f}" for place, value in zip(places, values))
        color = COLORS[i % len(COLORS)]
        parts += [f"<polyline points='{points}' fill='none' stroke='{color}' stroke-width='2'/>",
                  f"<rect x='490' y='{50 + i * 20}' width='12' height='12' fill='{color}'/>",
                  f"<text x='508' y='{61 + i * 20}'>{escape(name)}</text>"]
    return document(680, 325, title, parts)
