"""Doubtful rows against a scalar oracle, and the page as a browser and a stranger see it."""

import base64
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from pseudolabel import Neighbors, nearest_neighbors, reliability_ratio, reliable_labels
from pseudolabel.report import Table, find_doubtful, render_report
from pseudolabel.report.content import (
    ClassRow,
    class_rows,
    doubtful_classes,
    doubtful_rows,
    histogram,
    threshold_place,
    typical_rows,
    why,
)
from pseudolabel.report.pictures import Thumbnails
from pseudolabel.report.space import POINTS, flat_map

# --- which rows are doubtful ---------------------------------------------------------------------


@st.composite
def labelled_graphs(draw):
    count = draw(st.integers(2, 14))
    k = draw(st.integers(1, min(4, count - 1)))
    classes = draw(st.integers(1, 4))
    labels = draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count))
    neighbors = [
        draw(st.permutations([j for j in range(count) if j != i]).map(lambda p: p[:k]))
        for i in range(count)
    ]
    return labels, neighbors, classes


def doubt_by_hand(labels, neighbors, classes):
    """The rule of `find_doubtful`, a row and a class at a time."""
    k, rows = len(neighbors[0]), range(len(labels))
    labelled = [i for i in rows if labels[i] >= 0]
    votes = [[sum(labels[j] == c for j in neighbors[i]) / k for c in range(classes)] for i in rows]
    frequency = [sum(labels[i] == c for i in rows) / max(1, len(labelled)) for c in range(classes)]
    trusted = labelled
    for _ in range(2):
        agreement = sum(votes[i][labels[i]] for i in trusted) / len(trusted) if trusted else 1.0
        profiles = []
        for c in range(classes):
            counts = [
                sum(votes[i][e] for i in trusted if labels[i] == c)
                + 10 * ((1 - agreement) * frequency[e] + agreement * (e == c))
                + 1e-9
                for e in range(classes)
            ]
            profiles.append([math.log(x / sum(counts)) for x in counts])
        scores = [
            [round(sum(v * t for v, t in zip(votes[i], p, strict=True)), 9) for p in profiles]
            for i in rows
        ]
        doubt, suggested = [0.0] * len(labels), [-1] * len(labels)
        for i in rows:
            voted = [c for c in range(classes) if votes[i][c] > 0]
            if voted:
                among = sorted({*voted, *([labels[i]] if labels[i] >= 0 else [])})
                best = max(among, key=lambda c, i=i: (scores[i][c], c == labels[i], -c))
                suggested[i] = best
                if labels[i] >= 0:
                    doubt[i] = scores[i][best] - scores[i][labels[i]]
        trusted = [i for i in labelled if doubt[i] <= 0]
    return doubt, suggested


@given(labelled_graphs())
def test_doubt_is_the_rule_worked_out_by_hand(graph):
    labels, neighbors, classes = graph
    found = find_doubtful(np.array(labels), torch.tensor(neighbors), num_classes=classes)
    doubt, suggested = doubt_by_hand(labels, neighbors, classes)
    np.testing.assert_allclose(found.doubt, doubt, atol=1.5e-9)
    clear = [i for i, x in enumerate(doubt) if x == 0 or x > 1e-8]
    assert [found.suggested[i] for i in clear] == [suggested[i] for i in clear]


@pytest.mark.parametrize("pairs", [1, 7, 64])
def test_doubt_does_not_depend_on_how_many_pairs_are_looked_at_together(monkeypatch, pairs):
    neighbors, labels, _ = digits(flip_anywhere)
    expected = find_doubtful(labels[:100], neighbors.indices[:100].clamp(max=99))
    monkeypatch.setattr("pseudolabel.report.doubt._BLOCK_PAIRS", pairs)
    found = find_doubtful(labels[:100], neighbors.indices[:100].clamp(max=99))
    assert len(expected.order) > 0
    for field, values in zip(found, expected, strict=True):
        np.testing.assert_array_equal(field, values)


@given(labelled_graphs())
def test_ranked_rows_are_those_of_positive_doubt_in_order(graph):
    labels, neighbors, classes = graph
    found = find_doubtful(np.array(labels), torch.tensor(neighbors), num_classes=classes)
    ratio = reliability_ratio(np.array(labels), torch.tensor(neighbors)).numpy()
    keys = [(-found.doubt[i], ratio[i], i) for i in found.order]
    assert keys == sorted(keys)
    assert set(found.order.tolist()) == {i for i, x in enumerate(found.doubt) if x > 0}
    assert all(labels[i] >= 0 and found.suggested[i] != labels[i] for i in found.order)


@given(labelled_graphs(), st.randoms(use_true_random=False))
def test_doubt_follows_the_classes_when_they_are_renamed(graph, random):
    labels, neighbors, classes = graph
    names = list(range(classes))
    random.shuffle(names)
    renamed = np.array([names[c] if c >= 0 else -1 for c in labels])
    graph = torch.tensor(neighbors)
    first = find_doubtful(np.array(labels), graph, num_classes=classes)
    second = find_doubtful(renamed, graph, num_classes=classes)
    np.testing.assert_allclose(first.doubt, second.doubt, atol=2e-9)


def digits(flipped, seed=0):
    """Digits, their neighbours, labels some of which were changed by ``flipped``, and which."""
    data = load_digits()
    truth = data.target.astype(np.int64)
    labels = flipped(truth.copy(), np.random.default_rng(seed))
    return nearest_neighbors(torch.from_numpy(data.data), 20), labels, labels != truth


def flip_anywhere(labels, generator):
    rows = generator.choice(len(labels), len(labels) // 10, replace=False)
    labels[rows] = (labels[rows] + generator.integers(1, 10, len(rows))) % 10
    return labels


def flip_to_the_next_class(labels, generator):
    truth = labels.copy()
    for c in range(0, 10, 2):
        rows = generator.permutation(np.flatnonzero(truth == c))
        labels[rows[: len(rows) * 3 // 10]] = c + 1
    return labels


@pytest.mark.parametrize("flip", [flip_anywhere, flip_to_the_next_class])
def test_planted_flips_are_ranked_better_than_by_the_ratio(flip):
    neighbors, labels, wrong = digits(flip)
    found = find_doubtful(labels, neighbors)
    ratio = reliability_ratio(labels, neighbors).numpy()
    ours = average_precision_score(wrong, found.doubt)
    assert ours > average_precision_score(wrong, -ratio)
    first = found.order[: wrong.sum() // 2]
    assert wrong[first].mean() > 0.95


def test_suggestions_for_planted_flips_are_mostly_right():
    neighbors, labels, wrong = digits(flip_anywhere)
    truth = load_digits().target
    assert (find_doubtful(labels, neighbors).suggested == truth)[wrong].mean() > 0.9


def test_classes_that_always_mix_are_not_doubted():
    # Classes 0 and 1 share one place at random, class 2 has its own; one row of 2 is labelled 0.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 4, generator=generator) * 0.1
    features[:200, 0] += 1
    features[200:, 1] += 1
    labels = torch.randint(0, 2, (300,), generator=generator)
    labels[200:] = 2
    labels[250] = 0
    neighbors = nearest_neighbors(features, 10)
    assert find_doubtful(labels, neighbors).order[0] == 250
    assert reliability_ratio(labels, neighbors)[:200].min() <= 0.1


def test_nothing_is_doubtful_with_one_class_or_without_labelled_neighbours():
    graph = torch.tensor([[1], [0], [0]])
    alone = find_doubtful(np.array([0, 0, 0]), graph)
    assert len(alone.order) == 0
    assert alone.suggested.tolist() == [0, 0, 0]
    nobody = find_doubtful(np.array([-1, 1, -1]), graph)
    assert nobody.suggested.tolist() == [1, -1, -1]
    assert nobody.doubt.tolist() == [0, 0, 0]
    assert len(find_doubtful(np.array([-1, -1, -1]), graph).order) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.int32])
def test_labels_of_any_integer_dtype(dtype):
    neighbors, labels, _ = digits(flip_anywhere)
    expected, found = (find_doubtful(x, neighbors) for x in (labels, labels.astype(dtype)))
    for field, values in zip(found, expected, strict=True):
        np.testing.assert_array_equal(field, values)


def test_wrong_calls_say_so():
    graph = torch.tensor([[1], [0]])
    with pytest.raises(ValueError, match=r"num_classes: expected an int of 2 or more"):
        find_doubtful(np.array([0, 1]), graph, num_classes=1)
    with pytest.raises(ValueError, match=r"labels: expected shape \(N,\)"):
        find_doubtful(np.array([[0, 1]]), graph)
    with pytest.raises(TypeError, match="labels"):
        find_doubtful(np.array([0.0, 1.0]), graph)


# --- what is said of them ------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3, 19, 20, 21, 30, 100])
def test_histogram_counts_every_row_in_its_bar(width):
    counts = np.arange(width + 1).repeat(3)
    ratio = counts / width
    mask = counts % 2 == 0
    bars = histogram(ratio, mask, width)
    assert len(bars) <= 21
    assert (sum(b.reliable for b in bars), sum(b.doubtful for b in bars)) == (
        mask.sum(),
        (~mask).sum(),
    )
    for bar in bars[1:]:
        inside = (ratio > bar.low + 1e-9) & (ratio < bar.high + 1e-9)
        assert (bar.reliable, bar.doubtful) == ((inside & mask).sum(), (inside & ~mask).sum())
    assert bars[0].total == 3
    assert bars[-1].high == 1


@pytest.mark.parametrize("width", [5, 20, 40, 100])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("strict", [True, False])
def test_the_line_of_the_threshold_parts_the_bars(width, threshold, strict):
    ratio = np.arange(width + 1) / width
    mask = ratio > threshold if strict else ratio >= threshold
    place = threshold_place(threshold, strict, width)
    for number, bar in enumerate(histogram(ratio, mask, width)):
        if number + 1 <= place:
            assert bar.reliable == 0
        elif number >= place:
            assert bar.doubtful == 0
        else:
            assert place - number == pytest.approx(bar.doubtful / bar.total)


@pytest.mark.parametrize("threshold", [0.3, 0.75, 0.95])
def test_a_threshold_just_below_the_next_ratio_keeps_as_many_more_as_promised(threshold):
    neighbors, labels, _ = digits(flip_anywhere)
    features = np.zeros((len(labels), 1))
    reliable = reliable_labels(features, labels, neighbors=neighbors, threshold=threshold)
    rows = class_rows(
        reliable, neighbors.indices.numpy(), find_doubtful(labels, neighbors), "0" * 10
    )
    assert any(row.next_ratio is not None for row in rows)
    for row in rows:
        if row.next_ratio is not None:
            lower = reliable_labels(
                features, labels, neighbors=neighbors, threshold=row.next_ratio - 0.01
            )
            kept = int(lower.mask[labels == row.code].sum())
            assert kept == row.reliable + row.next_count


def test_doubtful_classes_are_those_below_half_the_worst_first():
    # Of 9 samples a class, 9, 5, 4 and none are reliable; the fifth class has no sample at all.
    kept = {0: 9, 1: 5, 2: 4, 3: 0}
    labels = np.repeat(np.arange(4), 9)
    neighbors = np.where(
        (np.arange(36) % 9 < np.array([kept[c] for c in labels]))[:, None],
        (np.arange(36) // 9 * 9 + (np.arange(36) + 1) % 9)[:, None],
        (np.arange(36)[:, None] + 9) % 36,
    )
    reliable = reliable_labels(
        np.zeros((36, 1)), labels, neighbors=torch.tensor(neighbors), threshold=0.5
    )._replace(num_classes=5)
    doubt = find_doubtful(labels, torch.tensor(neighbors), num_classes=5)
    rows = class_rows(reliable, neighbors, doubt, "abcde")
    assert [row.reliable for row in rows] == [9, 5, 4, 0, 0]
    assert [row.rival for row in rows] == [None, "c", "d", "a", None]
    assert [row.rival_share for row in rows] == pytest.approx([0, 4 / 9, 5 / 9, 1, 0])
    assert [row.name for row in doubtful_classes(rows)] == ["d", "e", "c"]


def test_a_lower_threshold_is_not_offered_for_what_the_confidence_removed():
    labels, graph = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([[1], [2], [0], [4], [0], [3]])
    probs = torch.full((6, 2), 0.5)
    probs[0] = torch.tensor([1.0, 0.0])
    reliable = reliable_labels(
        np.zeros((6, 1)), labels, neighbors=graph, probs=probs, min_confidence=0.9
    )
    assert reliable.mask.tolist() == [True] + [False] * 5
    doubt = find_doubtful(labels, graph)
    rows = class_rows(reliable, graph.numpy(), doubt, "ab")
    assert [(row.next_ratio, row.next_count) for row in rows] == [(None, 0), (None, 0)]


def test_a_class_that_explains_as_well_is_not_suggested():
    graph = torch.tensor([[1, 2], [0, 3], [3, 0], [2, 1]])
    found = find_doubtful(np.array([0, 0, 1, 1]), graph)
    assert found.suggested.tolist() == [0, 0, 1, 1]
    assert found.doubt.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("error", [OSError, ValueError, SyntaxError, Image.DecompressionBombError])
def test_a_picture_that_cannot_be_read_is_left_out(error):
    def broken(row):
        raise error("broken")

    assert Thumbnails(broken)(0).source == ""


def test_why_a_class_is_doubtful_is_told_in_sentences():
    row = ClassRow(
        code=0,
        name="a",
        samples=20,
        reliable=4,
        median=0.2,
        next_ratio=None,
        next_count=0,
        rival="b",
        rival_share=0.05,
        suspects=0,
        bars=[],
        reason="",
    )
    few = "Only 4 of 20 labels are reliable (20 %)."
    mixes = "It mixes with b, which 5 % of its rows' neighbours carry."
    assert why(row, "class") == f"{few} {mixes}"
    assert why(row._replace(rival_share=0.049), "class") == few
    alone = row._replace(rival=None, rival_share=0.0)
    assert why(alone, "class") == few
    assert (
        why(alone._replace(suspects=1), "name") == f"{few} 1 of its rows looks like another name's."
    )
    assert (
        why(alone._replace(suspects=2), "name") == f"{few} 2 of its rows look like another name's."
    )
    assert why(alone._replace(reason="no sample."), "class") == "No sample."


def test_typical_rows_have_the_highest_ratio_then_confidence_then_the_lowest_index():
    neighbors = torch.tensor([[1, 2], [0, 2], [0, 5], [0, 1], [5, 0], [4, 3]])
    labels = np.array([0, 0, 0, 0, 1, 1])
    reliable = reliable_labels(np.zeros((6, 1)), labels, neighbors=neighbors, threshold=0.5)
    assert reliable.ratio.tolist() == [1, 1, 0.5, 1, 0.5, 0.5]
    assert typical_rows(reliable, None, 3) == [[0, 1, 3], [4, 5]]
    confidence = np.array([0.5, 0.6, 1.0, 0.6, 0.2, 0.9])
    assert typical_rows(reliable, confidence, 4) == [[1, 3, 0, 2], [5, 4]]


# --- the map -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((40, 3)),
        np.ones((2, 1)),
        np.full((40, 2), 1e300) * np.arange(40)[:, None] / 40,
        np.random.default_rng(0).normal(size=(50, 1)),
        np.random.default_rng(0).normal(size=(50, 7)).astype(np.float16),
    ],
    ids=["zeros", "two rows", "huge", "one column", "half precision"],
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_map_is_finite_and_fits_the_square(features, metric):
    flat = flat_map(features, metric=metric)
    assert flat.places.shape == (len(features), 2)
    assert (flat.places >= 0).all()
    assert (flat.places <= 1).all()


def test_a_map_is_repeatable_bounded_and_names_its_method():
    features = np.random.default_rng(0).normal(size=(POINTS + 50, 5))
    first, again = (flat_map(features, kind="pca", seed=3) for _ in range(2))
    assert first.method == "PCA"
    assert len(first.rows) == POINTS
    assert (np.diff(first.rows) > 0).all()
    np.testing.assert_array_equal(first.places, again.places)
    assert flat_map(features[:40]).method == "t-SNE"
    assert flat_map(features[:10]).method == "PCA"
    assert flat_map(features, kind="none") is None


def test_a_map_by_cosine_does_not_see_how_long_rows_are():
    features = np.random.default_rng(0).normal(size=(12, 3))
    lengths = np.array([1e-200, 1.0, 1e200]).repeat(4)[:, None]
    places = flat_map(features * lengths, kind="pca").places
    np.testing.assert_allclose(places, flat_map(features, kind="pca").places)


def test_the_map_by_pca_keeps_the_distances_of_flat_data():
    features = np.random.default_rng(0).normal(size=(30, 2)) * [3, 1]
    places = flat_map(features, kind="pca", metric="euclidean").places
    ratio = np.linalg.norm(places - places[0], axis=1)[1:]
    ratio = ratio / np.linalg.norm(features - features[0], axis=1)[1:]
    np.testing.assert_allclose(ratio, ratio[0])


@pytest.mark.parametrize("mirrored", [[1, 1], [-1, 1], [1, -1], [-1, -1]])
def test_the_map_by_pca_is_not_mirrored(mirrored):
    features = np.random.default_rng(0).normal(size=(30, 2)) * [3, 1] * mirrored
    places = flat_map(features, kind="pca", metric="euclidean").places
    correlation = np.corrcoef(places.T, features.T)[:2, 2:]
    assert (np.diag(correlation) > 0.8).all()


# --- the page ------------------------------------------------------------------------------------

VOID = {"meta", "img", "rect", "line", "path", "br"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'); DROP TABLE labels;--",
    "{{ 7 * 7 }}{% raw %}",
    "right\u202eleft\x00\x1b[31m",
    "surrogate \udcff",
    "&amp;",
    "</style></svg>",
    "x" * 5000,
    "",
]


class Page(HTMLParser):
    """What a browser would find; closes and nesting are checked on the way."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def values(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def example(rows=80, classes=10, seed=0, threshold=0.5, k=5):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    features = torch.randn(rows, 6, generator=generator)
    features[torch.arange(rows), labels % 6] += 3
    labels[0] = -1
    neighbors = nearest_neighbors(features, k)
    return (
        features,
        reliable_labels(features, labels, neighbors=neighbors, threshold=threshold),
        neighbors,
    )


def picture(row):
    if row % 3 == 0:
        raise OSError("damaged")
    return Image.new(["RGB", "L", "RGBA", "P", "CMYK", "I;16"][row % 6], (200, 100))


def render(**options):
    return render_report(*example(), **{"title": "A title", "map_kind": "pca", **options})


PAGES = {
    "plain": lambda: render(),
    "hostile": lambda: render(
        title=HOSTILE[0],
        noun="class",
        class_names=HOSTILE,
        row_names=[HOSTILE[i % 10] for i in range(80)],
        picture=picture,
        settings={HOSTILE[0]: HOSTILE[1], "long": HOSTILE[8]},
        tables=[Table(HOSTILE[0], [HOSTILE[1]] * 2, [[HOSTILE[7], 0.5]], note=HOSTILE[3])],
    ),
    "one class": lambda: render_report(*example(classes=1), title="One"),
    "nothing reliable": lambda: render_report(*example(threshold=1.0), title="None"),
    "two rows": lambda: render_report(*example(rows=2, classes=1, k=1), title="Two"),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_whole_self_contained_and_accessible(name):
    text = PAGES[name]()
    text.encode()
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(tags)
    assert all(source.startswith("data:image/") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href"))
    assert "url(" not in text
    assert "@import" not in text
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert "default-src 'none'" in text

    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert set(page.values("aria-labelledby")) <= set(ids)
    assert {target[1:] for target in page.values("href")} <= set(ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(
        after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False)
    )
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes["aria-label"] for tag, attributes in page.tags if tag == "svg")
    assert ("html", {"lang": "en"}) in page.tags
    assert "width=device-width, initial-scale=1" in page.values("content")


def test_hostile_names_are_shown_as_text():
    page = Page(PAGES["hostile"]())
    for name in HOSTILE[:4]:
        assert name in page.words
    assert "\u202e" not in page.words
    assert "\x1b" not in page.words
    assert "(empty)" in page.words.split()
    assert "x" * 301 not in page.words
    assert sum(source.startswith("data:image/") for source in page.values("src")) > 10
    assert any(label.startswith("no picture of") for label in page.values("aria-label"))


def test_a_page_of_no_label_at_all():
    features, _, neighbors = example()
    reliable = reliable_labels(features, torch.full((80,), -1), neighbors=neighbors)
    assert reliable.num_classes == 0
    page = Page(render_report(features, reliable, neighbors, title="T"))
    assert "80 rows of 6 numbers in 0 clusters. 0 of 0 labels are reliable" in page.words


def test_the_page_says_what_the_numbers_say():
    features, reliable, neighbors = example()
    page = Page(render_report(features, reliable, neighbors, title="T", settings={"seed": 17}))
    kept = int(reliable.mask.sum())
    assert 0 < kept < 79
    assert (
        f"80 rows of 6 numbers in 10 clusters. {kept} of 79 labels ({100 * kept / 79:.1f} %)"
        in page.words
    )
    assert "more than 0.5 of a row's 5 nearest neighbours (cosine)" in page.words
    assert "t-SNE of all 80 rows" in page.words
    assert "seed 17" in page.words


def test_an_empty_class_is_explained():
    features, _, neighbors = example()
    labels = torch.zeros(80, dtype=torch.long)
    labels[3] = 1
    reliable = reliable_labels(features, labels, neighbors=neighbors, threshold=0.5)
    reliable = reliable._replace(num_classes=3)
    page = Page(
        render_report(features, reliable, neighbors, title="T", class_names=["a", "b", "c"])
    )
    assert (
        "Cluster b has no reliable label. No sample has a neighbour that carries its label."
        in page.words
    )
    assert "Cluster c is empty. No sample carries this label." in page.words


def test_of_many_classes_the_worst_are_listed_and_the_largest_named_on_the_map():
    # The last 30 classes are the largest; from class 30 on no neighbour carries a sample's label.
    labels = np.repeat(np.arange(240), 1 + (np.arange(240) >= 210))
    first = np.searchsorted(labels, labels)
    neighbors = np.where(labels < 30, first, (first - 1) % len(labels))[:, None]
    reliable = reliable_labels(
        np.zeros((len(labels), 1)), labels, neighbors=torch.tensor(neighbors), threshold=0.5
    )
    names = [f"class{c:03d}" for c in range(240)]
    features = np.random.default_rng(0).normal(size=(len(labels), 2))
    text = render_report(
        features,
        reliable,
        Neighbors(torch.tensor(neighbors), torch.ones(neighbors.shape)),
        title="T",
        class_names=names,
        map_kind="pca",
    )
    table = [
        row for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL) if re.search(r"class\d", row)
    ]
    assert [re.search(r"class\d{3}", row).group() for row in table] == names[30:230]
    on_the_map = text[text.index("<svg") :]
    assert sorted(re.findall(r"<text[^>]*>\s*(class\d{3})", on_the_map)) == names[210:]


def test_of_many_classes_every_tenth_has_one_colour_and_what_has_no_label_its_own():
    text = render_report(*example(rows=240, classes=23), title="T", map_kind="pca")
    colours = re.findall(r'<path class="c(\d+)" d="M', text)
    assert [int(c) for c in colours[:24]] == [10, *(c % 10 for c in range(23))]


@pytest.mark.parametrize(
    ("noun", "classes", "said"),
    [("class", 3, "3 classes"), ("class", 1, "1 class."), ("sign", 3, "3 signs")],
)
def test_nouns_are_counted(noun, classes, said):
    page = Page(render_report(*example(classes=classes), title="T", noun=noun, map_kind="none"))
    assert said in page.words


def test_neighbours_of_a_doubtful_row_are_marked_where_they_carry_another_label():
    labels = torch.tensor([1] * 8 + [0] * 8 + [-1])
    neighbors = torch.tensor([[1, 2, 3]] * 8 + [[8, 9, 10]] * 8 + [[0, 1, 2]])
    neighbors[7] = torch.tensor([8, 9, 6])  # labelled 1 among the 0
    neighbors[15] = torch.tensor([0, 16, 1])  # labelled 0 among the 1
    found = find_doubtful(labels, neighbors)
    rows = doubtful_rows(labels.numpy(), neighbors.numpy(), found, ["zero", "one"])
    assert {row.row: (row.agreeing, row.label, row.suggested) for row in rows} == {
        7: (1, "one", "zero"),
        15: (0, "zero", "one"),
    }
    told = {row.row: [tuple(other) for other in row.neighbors] for row in rows}
    assert told == {
        7: [(8, "zero", True), (9, "zero", True), (6, "one", False)],
        15: [(0, "one", True), (16, None, False), (1, "one", True)],
    }


def test_the_page_does_not_grow_with_the_rows():
    sizes = [
        len(
            render_report(
                *example(rows=rows, classes=rows // 10),
                title="T",
                class_names=["n" * 500] * (rows // 10),
                map_kind="pca",
            )
        )
        for rows in (3000, 9000)
    ]
    assert sizes[1] < 1.05 * sizes[0] < 2**20


def test_the_map_lies_flat_by_the_metric_that_judged():
    features, reliable, neighbors = example()
    features = features * torch.arange(1, len(features) + 1).unsqueeze(1)
    pages = {
        metric: render_report(
            features, reliable, neighbors, title="", map_kind="pca", metric=metric
        )
        for metric in ("cosine", "euclidean")
    }
    drawn = {metric: re.findall(r'd="(M[^"]*)"', page) for metric, page in pages.items()}
    assert len(drawn["cosine"]) == len(drawn["euclidean"]) > 1
    assert drawn["cosine"] != drawn["euclidean"]
    assert pages["cosine"] == render_report(features, reliable, neighbors, title="", map_kind="pca")


def test_of_many_rows_those_on_the_map_are_drawn_as_they_are(monkeypatch):
    monkeypatch.setattr("pseudolabel.report.space.POINTS", 20)
    features, reliable, neighbors = example()
    on_map = flat_map(features.numpy(), kind="pca", metric="cosine", seed=0).rows
    text = render_report(features, reliable, neighbors, title="", map_kind="pca")
    drawn = {
        kind: re.search(rf'class="{kind}" d="([^"]*)"', text)[1] for kind in ("kept", "others")
    }
    kept = reliable.mask[on_map]
    assert len(on_map) == 20
    assert kept.sum() != reliable.mask[:20].sum()
    assert drawn["kept"].count("M") == kept.sum()
    assert drawn["others"].count("M") == (~kept).sum()


@pytest.mark.parametrize(("side", "kind"), [(32, "png"), (33, "jpeg"), (100, "jpeg")])
def test_a_thumbnail_says_what_it_is(side, kind):
    made = Thumbnails(lambda row: Image.new("L", (side, side // 2), row))(7)
    head, _, data = made.source.partition(",")
    assert head == f"data:image/{kind};base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == kind.upper()
    assert image.size == (made.width, made.height) == (min(side, 64), min(side, 64) // 2)
    assert image.getpixel((3, 3)) == 7


def test_typical_rows_are_chosen_by_the_confidence_that_is_told(monkeypatch):
    told = []

    def spy(reliable, confidence, count):
        told.append(confidence)
        return typical_rows(reliable, confidence, count)

    monkeypatch.setattr("pseudolabel.report.content.typical_rows", spy)
    confidence = torch.linspace(0, 1, 80)
    render(confidence=confidence, picture=picture)
    render(picture=picture)
    np.testing.assert_array_equal(told[0], confidence.numpy())
    assert told[1] is None


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="class_names: expected 10 names, got 2"):
        render(class_names=["a", "b"])
    with pytest.raises(ValueError, match="row_names: expected 80 names, got 1"):
        render(row_names=["a"])
    features, reliable, neighbors = example()
    said = r"features: expected 80 rows, one a label, got a tensor of shape \(5, 6\)"
    with pytest.raises(ValueError, match=said):
        render_report(features[:5], reliable, neighbors, title="T")
