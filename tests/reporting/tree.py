"""Pages read back by html.parser: elements, tables, curves by their own axes. Not a test."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "input", "br", "wbr"}


class Tree(HTMLParser):
    """Elements as (tag, attributes, text, elements), checked to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.root = ("root", {}, [], [])
        self.open = [self.root]
        self.feed(text)
        assert self.open == [self.root]

    def handle_starttag(self, tag, attrs):
        made = (tag, dict(attrs), [], [])
        self.open[-1][3].append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_startendtag(self, tag, attrs):
        self.open[-1][3].append((tag, dict(attrs), [], []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)


def find(element, tag, **attributes):
    wanted = {key.rstrip("_"): value for key, value in attributes.items()}
    found = []
    for inner in element[3]:
        if inner[0] == tag and wanted.items() <= inner[1].items():
            found.append(inner)
        found += find(inner, tag, **attributes)
    return found


def text(element):
    return " ".join("".join(element[2]).split())


def rows(element):
    return [[text(cell) for cell in row[3]] for row in find(element, "tr")]


def curves(figure):
    """The curves of a chart in the units of its axes, which are read from their tick labels."""
    y = [(float(t[1]["y"]), float(text(t))) for t in find(figure, "text", class_="y")]
    x = [(float(t[1]["x"]), float(text(t))) for t in find(figure, "text", class_="x")]
    (y0, v0), (y1, v1) = y[0], y[-1]
    (x0, e0), (x1, e1) = x[0], x[-1]

    def units(pair):
        across, up = map(float, pair.split(","))
        epoch = e0 + (across - x0) * (e1 - e0) / (x1 - x0)
        return round(epoch, 3), v0 + (up - y0) * (v1 - v0) / (y1 - y0)

    found = {}
    for group in find(figure, "g"):
        lines = [[units(p) for p in one[1]["points"].split()] for one in find(group, "polyline")]
        bands = [[units(p) for p in one[1]["points"].split()] for one in find(group, "polygon")]
        found[group[1]["data-name"]] = (lines, bands)
    return found
