"""The fast path: tiles of rounded products must lose nobody, whatever the rows look like.

Tiles, sample and dtypes are made small here, so that a few hundred rows go through everything that
a hundred thousand do. The answer is the one that whole rows of scores give, bit by bit.
"""

import numpy as np
import oracles
import pytest
import torch
import tqdm
from comparisons import assert_identical
from hypothesis import given
from hypothesis import strategies as st
from strategies import METRICS, feature_sets, gaussian, metrics

from pseudolabel import nearest_neighbors, reliable_labels, reliable_mask
from pseudolabel.neighbors import _filter, _plan, _search, _source, _strip
from pseudolabel.neighbors._filter import Filter, Frame
from pseudolabel.neighbors._source import Source
from pseudolabel.neighbors._sweep import Sweep

ROUNDED = (torch.float32, torch.bfloat16, torch.float16)
both_metrics = pytest.mark.parametrize("metric", METRICS)
every_dtype = pytest.mark.parametrize("dtype", ROUNDED, ids=str)


@pytest.fixture
def small_tiles(monkeypatch):
    """Everything of 64 rows or more goes by tiles of 32; returns how to choose the dtype."""
    monkeypatch.setattr(_plan, "_TILED_FROM", 64)
    monkeypatch.setattr(_plan, "_SAMPLE", 64)
    monkeypatch.setattr(_plan, "_TILE", 32)
    usual = Sweep.pays
    monkeypatch.setattr(Sweep, "pays", lambda self: True)

    def choose(dtype, *, if_it_pays=False):
        if if_it_pays:
            monkeypatch.setattr(Sweep, "pays", usual)
        monkeypatch.setattr(_search, "fast_dtype", lambda device: dtype)

    return choose


@pytest.fixture
def tiles_seen(monkeypatch):
    """Counts the strips, to be sure that tiles were used."""
    seen = []
    keep = _strip.Strip.keep
    monkeypatch.setattr(_strip.Strip, "keep", lambda *args: seen.append(1) or keep(*args))
    return seen


def clustered(seed, size, dim, spread):
    centres = gaussian(seed, 7, dim)
    return centres[torch.arange(size) * 3 % 7] + spread * gaussian(seed + 1, size, dim)


CASES = {
    "gaussian": gaussian(0, 333, 19),
    "clusters": clustered(1, 333, 19, 0.3),
    "tight clusters": clustered(2, 333, 19, 1e-3),
    "far from the origin": 1000 + gaussian(3, 333, 5),
    "copies": gaussian(4, 40, 19)[torch.arange(333) * 7 % 40],
    "few kinds": gaussian(5, 3, 19)[torch.arange(333) * 7 % 3],
    "one kind": gaussian(6, 1, 19).expand(333, 19),
    "zero rows": gaussian(7, 333, 19) * (torch.arange(333) % 4 > 0).unsqueeze(1),
    "all zero": torch.zeros(333, 4),
    "positive": gaussian(8, 333, 19).abs(),
    "sorted by length": gaussian(9, 333, 19) * torch.linspace(1e-6, 1e6, 333).unsqueeze(1),
    "one outlier": torch.cat([gaussian(10, 332, 19), 1e8 * gaussian(11, 1, 19)]),
    "one dimension": gaussian(12, 333, 1),
    "an even number of rows": clustered(13, 320, 8, 0.2),
}


def by_rows(features, k, **options):
    """The answer of the path that compares whole rows, whose own tests are next door."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_plan, "_TILED_FROM", 10**9)
        return nearest_neighbors(features, k, **options)


@every_dtype
@both_metrics
@pytest.mark.parametrize("case", CASES)
def test_tiles_give_what_whole_rows_give(small_tiles, tiles_seen, case, metric, dtype):
    small_tiles(dtype)
    features = CASES[case].float()
    for k, include_self in ((1, False), (5, False), (6, True)):
        options = {"metric": metric, "include_self": include_self}
        actual = nearest_neighbors(features, k, **options)
        assert_identical(actual, by_rows(features, k, **options))
    assert tiles_seen


@every_dtype
@both_metrics
def test_queries_of_their_own(small_tiles, tiles_seen, metric, dtype):
    small_tiles(dtype)
    features = clustered(1, 333, 19, 0.3).float()
    queries = torch.cat([features[40:], gaussian(2, 57, 19, dtype=torch.float32)])
    options = {"queries": queries, "metric": metric}
    assert_identical(nearest_neighbors(features, 7, **options), by_rows(features, 7, **options))
    assert tiles_seen


@both_metrics
def test_the_default_device_is_not_asked(small_tiles, tiles_seen, metric):
    small_tiles(torch.bfloat16)
    features = clustered(1, 333, 19, 0.3).float()
    expected = by_rows(features, 5, metric=metric)
    with torch.device("meta"):
        found = nearest_neighbors(features, 5, metric=metric)
    assert_identical(found, expected)
    assert tiles_seen


@pytest.mark.parametrize("size", [64, 65, 95, 96, 97, 127, 128, 129, 160, 200])
def test_every_size_of_the_last_tile(small_tiles, size):
    small_tiles(torch.bfloat16)
    features = clustered(size, size, 7, 0.3).float()
    assert_identical(nearest_neighbors(features, 3), by_rows(features, 3))


@every_dtype
def test_groups_of_queries_are_all_searched(small_tiles, monkeypatch, dtype):
    """Less memory means several groups, whose tiles are no mirror images of each other."""
    small_tiles(dtype)
    plan = _plan.make_plan
    monkeypatch.setattr(_search, "make_plan", lambda *args: plan(*args)._replace(group=96))
    features = clustered(1, 333, 19, 0.3).float()
    assert_identical(nearest_neighbors(features, 5), by_rows(features, 5))
    assert_identical(
        nearest_neighbors(features, 5, queries=features[:200]),
        by_rows(features, 5, queries=features[:200]),
    )


@every_dtype
@pytest.mark.parametrize("room", [6, 40])
def test_thinning_out_loses_nobody(small_tiles, monkeypatch, dtype, room):
    """Little room: limits rise on the way, and swamped queries are searched row by row."""
    small_tiles(dtype)
    plan = _plan.make_plan
    monkeypatch.setattr(_search, "make_plan", lambda *args: plan(*args)._replace(room=room))
    for case in ("clusters", "few kinds", "copies", "gaussian"):
        features = CASES[case].float()
        assert_identical(nearest_neighbors(features, 5), by_rows(features, 5))


@every_dtype
def test_a_guess_that_is_too_high_is_noticed(small_tiles, monkeypatch, dtype):
    """The largest of the sampled scores as a guess of the k-th: nearly always too high."""
    small_tiles(dtype)
    plan = _plan.make_plan
    monkeypatch.setattr(_search, "make_plan", lambda *args: plan(*args)._replace(rank=1))
    for case in ("gaussian", "clusters", "positive", "an even number of rows"):
        features = CASES[case].float()
        for k in (3, 6):
            assert_identical(nearest_neighbors(features, k), by_rows(features, k))


def test_a_query_settles_only_if_nobody_near_its_kth_score_was_left_out():
    """k = 2, slack 0.1: with a guess of 0.9 scores from 0.8 on are kept."""
    source = Source("features", torch.eye(3))
    rounded = Filter(Frame(source, source, "cosine"), torch.float32)
    encoded = _filter.Encoded(torch.eye(2, 3), torch.tensor([0.1, 0.1]))
    strip = _strip.Strip(0, encoded, torch.tensor([0.9, 0.9]), rounded, 2, 100)
    # The second row's 2nd score is 0.82, and 0.79 could be nearer: it was not kept.
    scores = torch.tensor([[0.95, 0.91, 0.79, 0.82], [0.95, 0.82, 0.79, 0.81]])
    strip.keep(scores, 0, torch.empty(8, dtype=torch.bool))
    kept = strip.thin_out()
    assert strip.settled.tolist() == [True, False]
    assert kept.columns[kept.rows == 0].tolist() == [0, 1, 3]


def test_too_many_candidates_are_compared_without_rounding(small_tiles, monkeypatch):
    small_tiles(torch.bfloat16)
    plan = _plan.make_plan
    monkeypatch.setattr(_search, "make_plan", lambda *args: plan(*args)._replace(crowd=20))
    features = CASES["few kinds"].float()
    found = nearest_neighbors(features, 5)
    for sample, indices in enumerate(found.indices.tolist()):
        alike = (features == features[sample]).all(1).nonzero()[:, 0].tolist()
        assert indices == [i for i in alike if i != sample][:5]


@both_metrics
def test_the_answer_is_the_oracles(small_tiles, tiles_seen, metric):
    small_tiles(torch.bfloat16)
    features = clustered(3, 150, 9, 0.2).float()
    features[::11] = features[0]
    expected, _ = oracles.nearest_neighbors(features, 3, metric=metric)
    assert nearest_neighbors(features, 3, metric=metric).indices.tolist() == expected
    assert tiles_seen


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.6])
@every_dtype
def test_masks_and_ratios_are_those_of_the_graph(small_tiles, dtype, noise, include_self):
    """The mask looks no closer than it must; it must still look closely enough."""
    small_tiles(dtype)
    features = clustered(1, 333, 19, 0.4).float()
    features[::9] = features[0]
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(333) * 3 % 7
    flipped = torch.rand(2, 333, generator=generator) < noise
    labels = torch.where(flipped, torch.randint(-1, 7, (2, 333), generator=generator), labels)
    graph = by_rows(features, 20, include_self=include_self)
    for threshold in (0.0, 0.3, 0.5, 0.95):
        for strict in (True, False):
            options = {"k": 20, "threshold": threshold, "strict": strict}
            expected = reliable_mask(features, labels, neighbors=graph, **options)
            options["include_self"] = include_self
            assert torch.equal(reliable_mask(features, labels, **options), expected)
            given = reliable_labels(features, labels[0], **options)
            again = reliable_labels(features, labels[0], neighbors=graph, **options)
            assert_identical(given, again)


# The bound ---------------------------------------------------------------------------------------


def exact_scores(features, metric):
    """In float64: cosines, or minus half the squared distances."""
    x = features.double()
    if metric == "cosine":
        norm = x.norm(dim=1, keepdim=True)
        x = x / torch.where(norm > 0, norm, 1)
        return x @ x.T
    return -((x[:, None] - x[None]) ** 2).sum(-1) / 2


def rounded_scores(features, metric, dtype):
    source = Source("features", features)
    frame = Frame(source, source, metric)
    rounded = Filter(frame, dtype)
    encoded = rounded.encode(features)
    return rounded, encoded, rounded.scores(encoded.rows, rounded.mirrored(encoded.rows))


def test_blocks_are_of_as_many_rows_as_are_asked_for(monkeypatch):
    monkeypatch.setattr(_source, "_BLOCK_ELEMENTS", 8)
    source = Source("features", torch.arange(40.0).view(20, 2))
    found = [block[:, 0].div(2).tolist() for block in source.blocks(3, 10)]
    assert found == [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]
    assert sum(map(len, source.blocks(15, 10))) == 5


@every_dtype
@given(metric=metrics, features=feature_sets(), shift=st.sampled_from([0.0, 1.0, 100.0]))
def test_scores_are_within_the_bound(dtype, metric, features, shift):
    features = (features + shift).float()
    rounded, encoded, scores = rounded_scores(features, metric, dtype)
    exact = exact_scores(features, metric) / rounded.frame.scale.square()
    off = (scores.double() - exact).abs()
    half_unit = _filter._half_unit(scores.float(), scores.dtype).double()
    assert (off <= encoded.slack.double().unsqueeze(1) / 2 + half_unit).all()


@both_metrics
@every_dtype
def test_the_bound_allows_for_sums_in_any_order(dtype, metric):
    """Rows that every dtype holds exactly leave only the sums: n u times the sizes, at worst."""
    half = torch.randint(0, 2, (8, 256), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    rounded, encoded, _ = rounded_scores(torch.cat([half, -half]), metric, dtype)
    sizes = encoded.rows.double().abs() @ rounded.mirrored(encoded.rows).double().abs().T
    assert sizes.min() >= (2 if metric == "euclidean" else 1)
    at_worst = encoded.rows.shape[1] * 2.0**-24 * sizes
    assert (encoded.slack.double().unsqueeze(1) / 2 >= at_worst).all()


@both_metrics
def test_the_bound_is_not_idle(metric):
    """An order of magnitude above what happens, not many: else nothing would be left out."""
    features = gaussian(0, 400, 64, dtype=torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        rounded, encoded, scores = rounded_scores(features, metric, dtype)
        exact = exact_scores(features, metric) / rounded.frame.scale.square()
        off = (scores.double() - exact).abs().max()
        assert encoded.slack.max() / 2 < 20 * off


@every_dtype
@given(metric=metrics, features=feature_sets(), data=st.data())
def test_no_neighbour_is_below_the_floor(dtype, metric, features, data):
    features = features.float()
    k = data.draw(st.integers(1, len(features) - 1))
    rounded, encoded, scores = rounded_scores(features, metric, dtype)
    scores.fill_diagonal_(-torch.inf)
    kth = scores.topk(k, dim=1).values[:, -1]
    found = torch.tensor(oracles.nearest_neighbors(features, k, metric=metric)[0])
    floor = rounded.floor(kth, encoded.slack)
    assert (scores.gather(1, found) >= floor.unsqueeze(1)).all()


@every_dtype
@given(metric=metrics, features=feature_sets(), data=st.data())
def test_certain_candidates_are_neighbours(dtype, metric, features, data):
    features = features.float() * 1e-3 + data.draw(st.sampled_from([0.0, 1.0]))
    k = data.draw(st.integers(1, len(features) - 1))
    rounded, encoded, scores = rounded_scores(features, metric, dtype)
    scores.fill_diagonal_(-torch.inf)
    kth = scores.topk(k, dim=1).values[:, -1]
    found = oracles.nearest_neighbors(features, k, metric=metric)[0]
    certain = rounded.certain(scores, kth, encoded.slack)
    for sample, row in enumerate(certain):
        assert set(row.nonzero()[:, 0].tolist()) <= set(found[sample])


@both_metrics
@every_dtype
def test_near_ties_are_not_certain(dtype, metric):
    features = CASES["tight clusters"].float()
    rounded, encoded, scores = rounded_scores(features, metric, dtype)
    scores.fill_diagonal_(-torch.inf)
    kth = scores.topk(9, dim=1).values[:, -1]
    found = by_rows(features, 9, metric=metric).indices
    certain = rounded.certain(scores, kth, encoded.slack)
    neighbours = torch.zeros_like(certain).scatter_(1, found, True)
    assert not (certain & ~neighbours).any()


def test_much_is_certain_where_rows_are_apart():
    features = gaussian(0, 200, 16, dtype=torch.float32)
    rounded, encoded, scores = rounded_scores(features, "cosine", torch.bfloat16)
    scores.fill_diagonal_(-torch.inf)
    kth = scores.topk(20, dim=1).values[:, -1]
    assert rounded.certain(scores, kth, encoded.slack).sum(1).float().mean() > 15


def test_the_choice_of_dtype_is_one_of_those_that_are_proved():
    assert _filter.fast_dtype(torch.device("cpu")) in ROUNDED
    assert _filter.fast_dtype(torch.device("meta")) == torch.float32  # a device nobody has measured


def test_the_race_is_run_on_the_device_in_question(monkeypatch):
    raced = []
    monkeypatch.setattr(_filter, "_seconds", lambda rows: raced.append(rows) or 1.0)
    with torch.device("meta"):
        assert _filter.fast_dtype.__wrapped__(torch.device("cpu")) == torch.float32
    assert [rows.device.type for rows in raced] == ["cpu", "cpu"]


def test_few_bits_are_given_up_where_they_leave_too_many_candidates(small_tiles, monkeypatch):
    small_tiles(torch.bfloat16, if_it_pays=True)
    tried, make = [], _search.Search._make_sweep
    monkeypatch.setattr(
        _search.Search, "_make_sweep", lambda self, dtype: tried.append(dtype) or make(self, dtype)
    )
    apart, alike = gaussian(0, 1000, 100), 1e4 + gaussian(0, 1000, 100)
    for features, dtypes in (
        (apart, [torch.bfloat16]),
        (alike, [torch.bfloat16, torch.float32]),
    ):
        tried.clear()
        found = nearest_neighbors(features, 4)
        assert tried == dtypes
        assert_identical(found, by_rows(features, 4))


@pytest.mark.parametrize("queries", [None, gaussian(1, 100, 9)], ids=["own", "others"])
@pytest.mark.parametrize("group", [96, 400])
def test_progress_counts_the_tiles(small_tiles, monkeypatch, queries, group):
    small_tiles(torch.float32)
    plan = _search.make_plan
    monkeypatch.setattr(_search, "make_plan", lambda *args: plan(*args)._replace(group=group))
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**options, disable=None)
            bars.append([self.total, 0])

        def update(self, n=1):
            bars[-1][1] += n

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    nearest_neighbors(gaussian(0, 333, 9), 4, queries=queries, progress=True)
    [(total, done)] = bars
    assert total == done > 40


@pytest.mark.parametrize("shape", [(3, 8), (5, 7), (1, 1), (16, 24)])
def test_few_hits_are_found_like_many(shape):
    for share in (0.0, 0.1, 1.0):
        hits = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < share
        expected = np.nonzero(hits.numpy())
        for actual, other in zip(_strip._where(hits), expected, strict=True):
            assert actual.tolist() == other.tolist()


def test_groups_that_go_on_within_a_tile_begin_with_the_tile(small_tiles):
    options = {"metric": "cosine", "include_self": False, "backend": "torch"}
    search = _search.make_search(gaussian(0, 300, 8), 5, memory_limit=2**22, **options)
    tile = search.plan.tile
    assert search.plan.by_tiles
    assert 3 < tile < 300
    groups = search.groups(tile + 3)
    assert groups[0][0] == tile
    assert [stop for _, stop in groups] == [*(start for start, _ in groups[1:]), 300]


@both_metrics
def test_autocast_changes_no_neighbour(metric):
    features = gaussian(0, 500, 64, dtype=torch.float32)
    expected = nearest_neighbors(features, 200, metric=metric)
    with torch.autocast("cpu", torch.bfloat16):
        assert_identical(nearest_neighbors(features, 200, metric=metric), expected)


def test_a_crowd_of_equal_rows_is_judged_without_a_graph():
    features, labels = torch.ones(1500, 2), torch.arange(1500) % 2
    graph = nearest_neighbors(features, 3)
    for threshold in (0.3, 0.5, 0.9):
        mask = reliable_mask(features, labels, k=3, threshold=threshold)
        expected = reliable_mask(features, labels, threshold=threshold, neighbors=graph)
        assert torch.equal(mask, expected)
