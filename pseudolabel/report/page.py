"""The page: everything put together and escaped, in one file without any request to a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import wrong_value
from pseudolabel.reliability import ReliableLabels
from pseudolabel.report import content
from pseudolabel.report.doubt import Doubt, find_doubtful
from pseudolabel.report.pictures import Picture, Thumbnails
from pseudolabel.report.space import FlatMap, MapKind, flat_map
from pseudolabel.types import Neighbors

if TYPE_CHECKING:
    from jinja2 import Environment

_CLASSES_PICTURED = 40
_PICTURES_A_CLASS = 6
_NAME_LENGTH = 60
_PLACES = 1000  # the map's grid
_COLOURS = 10
_NAMES_ON_MAP = 30


class Table(NamedTuple):
    """A table of the caller's own, shown as it is.

    Attributes:
        title: Its heading.
        header: Titles of the columns.
        rows: Cells; the first of a row is its heading.
        note: A sentence below the heading.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


class MapClass(NamedTuple):
    """One class of the map: its dots as an SVG path, and where its name stands."""

    name: str
    colour: int
    dots: str
    x: int
    y: int
    named: bool


def render_report(
    features: Tensor | np.ndarray,
    reliable: ReliableLabels,
    neighbors: Neighbors | Tensor,
    *,
    title: str,
    noun: str = "cluster",
    metric: str = "cosine",
    class_names: Sequence[str] | None = None,
    row_names: Sequence[str] | None = None,
    confidence: Tensor | np.ndarray | None = None,
    doubt: Doubt | None = None,
    picture: Picture | None = None,
    map_kind: MapKind = "auto",
    seed: int = 0,
    tables: Sequence[Table] = (),
    settings: Mapping[str, object] | None = None,
) -> str:
    """Writes about labels and how sure they are: a page of HTML that needs nothing else.

    It shows how many labels are reliable, which classes are doubtful and why, sizes and ratios
    class by class, the rows whose neighbours speak for another class, and a flat map. It holds no
    script and asks no server; every name is escaped; its size does not grow with the rows.

    Args:
        features: ``(N, D)``, those that the reliability was judged by.
        reliable: What `reliable_labels` returned.
        neighbors: ``(N, k)``, the graph that it judged by.
        title: The heading.
        noun: What a class is called: "cluster" or "class".
        metric: The graph's, for the text and the map.
        class_names: K of them; None means the numbers.
        row_names: N of them; None means the numbers.
        confidence: ``(N,)``; orders the typical rows where pictures are given.
        doubt: What `find_doubtful` returned; None finds it here.
        picture: Gives the PIL image of a row.
        map_kind: ``"tsne"``, ``"pca"``, ``"auto"`` or ``"none"``.
        seed: Of the map.
        tables: More tables, the scores of a run for example.
        settings: What to list under "Settings and versions".

    Returns:
        The page, to be written as UTF-8.

    Raises:
        ValueError: If the lengths of the arguments do not agree.
        ImportError: If jinja2 is not installed (``pip install "pseudolabel[cli]"``).

    Example:
        >>> import torch
        >>> from pseudolabel import nearest_neighbors, reliable_labels
        >>> from pseudolabel.report import render_report
        >>> features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
        >>> neighbors = nearest_neighbors(features, 5)
        >>> labels = (features[:, 0] > 0).long()
        >>> reliable = reliable_labels(features, labels, threshold=0.5, neighbors=neighbors)
        >>> page = render_report(features, reliable, neighbors, title="Signs", map_kind="pca")
        >>> page.startswith("<!doctype html>"), "<h1>Signs</h1>" in page
        (True, True)
    """
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    names = _names("class_names", class_names, reliable.num_classes)
    row_names = None if row_names is None else _names("row_names", row_names, len(reliable.given))
    if len(features) != len(reliable.given):
        wrong_value("features", f"{len(reliable.given)} rows, one a label", features)
    doubt = doubt or find_doubtful(reliable.given, indices, num_classes=len(names) or None)
    graph = indices.cpu().numpy()
    given, mask = reliable.given.cpu().numpy(), reliable.mask.cpu().numpy()
    ratio = reliable.ratio.cpu().numpy()
    rows = content.class_rows(reliable, graph, doubt, names)
    labelled = given >= 0

    typical = None
    if picture is not None:
        sure = None if confidence is None else torch.as_tensor(confidence).cpu().numpy()
        typical = content.typical_rows(reliable, sure, _PICTURES_A_CLASS)[:_CLASSES_PICTURED]
    points = features.detach().cpu().float().numpy() if isinstance(features, Tensor) else features
    flat = flat_map(points, kind=map_kind, metric=metric, seed=seed)
    doubtful = content.doubtful_classes(rows)
    page: str = (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            noun=noun,
            nouns="classes" if noun == "class" else f"{noun}s",
            metric=metric,
            shape=features.shape,
            threshold=reliable.threshold,
            strict=reliable.strict,
            width=graph.shape[1],
            labelled=int(labelled.sum()),
            kept=int(mask.sum()),
            suspects=len(doubt.order),
            place=content.threshold_place(reliable.threshold, reliable.strict, graph.shape[1]),
            bars=content.histogram(ratio[labelled], mask[labelled], graph.shape[1]),
            classes=_shown(rows),
            all_classes=len(rows),
            largest=max((row.samples for row in rows), default=0),
            doubtful=doubtful[: content.DOUBTFUL_CLASSES_SHOWN],
            all_doubtful=len(doubtful),
            why=content.why,
            doubtful_rows=content.doubtful_rows(given, graph, doubt, names),
            row_names=row_names,
            typical=typical,
            names=names,
            thumbnail=None if picture is None else Thumbnails(picture),
            flat=flat,
            map_classes=[] if flat is None else _map_classes(flat, given, names),
            map_kept="" if flat is None else _dots(flat.places[mask[flat.rows]]),
            map_others="" if flat is None else _dots(flat.places[~mask[flat.rows]]),
            tables=tables,
            settings=settings or {},
        )
    )
    return page


def _names(argument: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(number) for number in range(count)]
    if len(names) != count:
        wrong_value(argument, f"{count} names", len(names))
    return [_printable(name) for name in names]


def _printable(text: object, length: int = _NAME_LENGTH) -> str:
    """A name of bounded length without control characters, which no terminal or page should get."""
    name = str(text)
    shown = name if len(name) <= length else name[: length - 1] + "…"
    return "".join(c if c.isprintable() else "\ufffd" for c in shown) or "(empty)"


def _shown(rows: list[content.ClassRow]) -> list[content.ClassRow]:
    """All classes, or those with the smallest reliable share where there are too many."""
    if len(rows) <= content.CLASSES_SHOWN:
        return rows
    return sorted(rows, key=lambda row: (row.share, row.code))[: content.CLASSES_SHOWN]


def _map_classes(flat: FlatMap, given: np.ndarray, names: Sequence[str]) -> list[MapClass]:
    codes = given[flat.rows]
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    named = set(np.argsort(-sizes, kind="stable")[:_NAMES_ON_MAP].tolist())
    classes = []
    for code in [-1, *np.flatnonzero(sizes).tolist()]:
        places = flat.places[codes == code]
        if len(places) == 0:
            continue
        x, y = np.rint(np.median(places, axis=0) * _PLACES).astype(int).tolist()
        colour = code % _COLOURS if code >= 0 else _COLOURS
        name = "" if code < 0 else names[code]
        classes.append(MapClass(name, colour, _dots(places), x, y, code in named))
    return classes


def _dots(places: np.ndarray) -> str:
    """Dots as one path of lines without length, a tenth of what circles would take."""
    grid = np.rint(places * _PLACES).astype(int).tolist()
    return "".join(f"M{x} {y}h0" for x, y in grid)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pseudolabel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"thousands": _thousands, "printable": _printable}
    return environment


def _thousands(number: int) -> str:
    return f"{number:,}"
