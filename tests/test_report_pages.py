"""Two reports as a reader gets them, every word, number and place.

What a browser finds on them is in report_pages.txt, a block a line, to be read in one go; as a
script this file writes it anew.
"""

import re
from html.parser import HTMLParser
from pathlib import Path

import torch
from PIL import Image

from pseudolabel import nearest_neighbors, reliable_labels
from pseudolabel.report import Table, render_report


def named_page():
    """Three classes of nine leaves, one that no leaf carries, and every option given."""
    centres = torch.tensor([[0.0, 9.0], [8.0, 0.0], [-7.0, -5.0]])
    rows = torch.arange(27)
    features = centres[rows % 3] + torch.stack([rows * 7 % 5 - 2.0, rows * 3 % 7 - 3.0], dim=1)
    labels = rows % 3
    labels[3], labels[4], labels[20] = -1, 0, 1
    labels[[6, 15]], labels[24] = -1, 2
    neighbors = nearest_neighbors(features, 4)
    confidence = (rows * 5 % 11) / 10
    reliable = reliable_labels(features, labels, neighbors=neighbors, threshold=0.5)
    return render_report(
        features,
        reliable._replace(num_classes=4),
        neighbors,
        title="Leaves & needles",
        noun="class",
        class_names=["oak", "fir", "<ash>", "elm"],
        row_names=[f"leaf-{row:02d}.png" for row in rows.tolist()],
        confidence=confidence,
        picture=leaf,
        tables=[
            Table("Scores", ["stage", "ACC"], [["heads", 0.5], ["joint", 0.75]], note="Of 27.")
        ],
        settings={"seed": 3, "backend": "torch"},
    )


def leaf(row):
    if row == 7:
        raise OSError("damaged")
    return Image.new("L", (8 + row, 8), row)


def numbered_page():
    """Twelve clusters of numbers, more neighbours than bars, a threshold that is itself enough."""
    rows = torch.arange(12 * 24)
    features = torch.stack([rows // 24 + rows % 24 / 26.0, (rows * 7 % 24) / 96.0], dim=1)
    labels = rows // 24
    labels[10::60] = (labels[10::60] + 1) % 12
    neighbors = nearest_neighbors(features, 22, metric="euclidean")
    reliable = reliable_labels(
        features, labels, neighbors=neighbors, threshold=18 / 22, strict=False
    )
    return render_report(
        features,
        reliable,
        neighbors.indices,
        title="Numbers",
        metric="euclidean",
        map_kind="pca",
    )


INLINE = re.compile("a|b|bdi|code|dd|em|img|line|path|rect|small|span|strong|td|text|th|title")


class Outline(HTMLParser):
    """Elements with their attributes and words, a block a line; of pictures only the kind."""

    def __init__(self, page):
        super().__init__()
        self.lines = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        told = "".join(f" {name}={self.short(value)}" for name, value in attrs)
        if INLINE.fullmatch(tag):
            self.lines[-1] += f" <{tag}{told}>"
        else:
            self.lines.append(f"<{tag}{told}>")

    def handle_data(self, data):
        words = " ".join(data.split())
        if words and not self.lines[-1].startswith("<style>"):
            self.lines[-1] += f" {words}"

    @staticmethod
    def short(value):
        return re.sub(r";base64,.*", "", value or "")


def outlines():
    pages = {"named": named_page(), "numbered": numbered_page()}
    return [line for name, page in pages.items() for line in (f"# {name}", *Outline(page).lines)]


ON_FILE = Path(__file__).with_name("report_pages.txt")


def test_the_pages_are_those_on_file():
    assert outlines() == ON_FILE.read_text().splitlines()


if __name__ == "__main__":
    ON_FILE.write_text("".join(f"{line}\n" for line in outlines()))
