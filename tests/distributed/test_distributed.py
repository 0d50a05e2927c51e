"""Sharded samples give the answer of one process, to the last bit; faults are errors, not hangs."""

import itertools
import os
import signal
import time

import pytest
import torch
import torch.distributed as dist
from distributed.ranks import on_ranks

import pseudolabel as pl
from pseudolabel import distributed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks need os.fork")

ASSIGNMENTS = ("overlap", "greedy", "optimal", "sequential", "nearest")
SHARDS = {2: [(9, 21), (30, 0), (0, 30)], 3: [(10, 13, 7), (0, 1, 29), (15, 0, 15)]}


def share(sizes, rank):
    start = sum(sizes[:rank])
    return slice(start, start + sizes[rank])


def features_of(kind, count=30, dimension=5):
    generator = torch.Generator().manual_seed(len(kind))
    x = torch.randn(count, dimension, generator=generator)
    if kind == "ties":  # few distinct rows, zero rows, and duplicates on other ranks
        x = torch.randint(-1, 2, (count, 2), generator=generator).float()
    if kind == "near ties":
        x = 1 + 2.0**-24 * torch.randint(0, 3, (count, dimension), generator=generator)
    if kind == "one row":
        x = torch.ones(count, dimension)
    if kind == "huge":  # with distances beyond float32
        x = x / x.abs().max() * 3e38
    if kind in ("float16", "bfloat16", "float64"):
        x = x.to(getattr(torch, kind))
    return x


def probs_of(kind, heads=(), count=30, classes=4):
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(*heads, count, classes, generator=generator)
    if kind == "saturated":
        return (100 * logits).softmax(-1)
    if kind == "uniform":
        return torch.full((*heads, count, classes), 1 / classes)
    return logits.softmax(-1)


def same(got, expected):
    """Whether two answers are the same bit for bit."""
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for a, b in pairs:
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert torch.equal(a, b)
        else:
            assert a == b


FEATURES = ("random", "ties", "near ties", "one row", "float16", "bfloat16", "float64", "huge")


def label_cases():
    for kind, metric in itertools.product(FEATURES, ("cosine", "euclidean")):
        for probs, heads in (("random", ()), ("saturated", (3,)), ("uniform", (2, 1))):
            for assignment in ASSIGNMENTS:
                yield kind, probs, heads, {"metric": metric, "assignment": assignment}
    yield "random", "random", (2,), {"prototype_ratio": 1.0, "label_ratio": 0.29}
    yield "ties", "saturated", (2,), {"prior": [0.1, 0.1, 0.3, 0.5]}
    yield "ties", "saturated", (), {"prior": torch.tensor([1, 1, 1, 50]), "assignment": "greedy"}


def neighbor_cases():
    for kind, metric in itertools.product(FEATURES, ("cosine", "euclidean")):
        for k, include_self in ((1, False), (7, True), (29, False), (30, True)):
            yield kind, {"k": k, "metric": metric, "include_self": include_self}


def check_labels(rank, shards):
    for case, sizes in zip(label_cases(), shards, strict=False):
        kind, probs, heads, options = case
        mine = share(sizes, rank)
        features, p = features_of(kind), probs_of(probs, heads)
        got = distributed.prototype_labels(features[mine], p[..., mine, :], **options)
        same(got, pl.prototype_labels(features, p, **options))


def check_neighbors(rank, shards):
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(-1, 3, (2, 30), generator=generator)
    for (kind, options), sizes in zip(neighbor_cases(), shards, strict=False):
        mine = share(sizes, rank)
        features = features_of(kind)
        graph = pl.nearest_neighbors(features, **options)
        got = distributed.nearest_neighbors(features[mine], **options)
        same(got, pl.Neighbors(graph.indices[mine], graph.similarity[mine]))
        same(
            distributed.reliability_ratio(labels[:, mine], got),
            pl.reliability_ratio(labels, graph)[:, mine],
        )
        for threshold, strict in ((3 / 7, True), (3 / 7, False), (0.0, True), (1.0, False)):
            rule = {"threshold": threshold, "strict": strict}
            expected = pl.reliable_mask(features, labels, neighbors=graph, **rule)[:, mine]
            same(
                distributed.reliable_mask(features[mine], labels[:, mine], neighbors=got, **rule),
                expected,
            )
        found = distributed.reliable_mask(features[mine], labels[0, mine], **options, **rule)
        same(found, expected[0])


@pytest.mark.parametrize("check", [check_labels, check_neighbors])
@pytest.mark.parametrize("world", [2, 3])
def test_shards_give_the_answer_of_one_process(world, check):
    def work(rank):
        check(rank, itertools.cycle(SHARDS[world]))

    assert on_ranks(world, work) == [None] * world


def test_many_rows_and_bags_in_pieces():
    def work(rank):
        from pseudolabel.distributed import labels

        labels._ROWS_AT_A_TIME = 50
        features, probs = features_of("random", 400, 9), probs_of("random", (3,), 400)
        mine = share((150, 250), rank)
        same(
            distributed.prototype_labels(features[mine], probs[:, mine]),
            pl.prototype_labels(features, probs),
        )
        found = distributed.nearest_neighbors(features[mine], 20)
        graph = pl.nearest_neighbors(features, 20)
        same(found, pl.Neighbors(graph.indices[mine], graph.similarity[mine]))

    assert on_ranks(2, work) == [None, None]


def test_a_group_of_some_of_the_ranks():
    def work(rank):
        groups = [dist.new_group([0]), dist.new_group([1, 2])]
        group, sizes = (groups[0], (30,)) if rank == 0 else (groups[1], (11, 19))
        features, probs = features_of("ties"), probs_of("saturated")
        mine = share(sizes, dist.get_rank(group))
        same(
            distributed.prototype_labels(features[mine], probs[mine], process_group=group),
            pl.prototype_labels(features, probs),
        )
        found = distributed.nearest_neighbors(features[mine], 5, process_group=group)
        same(found.indices, pl.nearest_neighbors(features, 5).indices[mine])

    assert on_ranks(3, work) == [None] * 3


@pytest.mark.parametrize("include_self", [False, True])
def test_without_a_process_group_it_is_the_answer_of_one_process(include_self):
    features, probs = features_of("ties"), probs_of("saturated")
    same(distributed.prototype_labels(features, probs), pl.prototype_labels(features, probs))
    found = distributed.nearest_neighbors(features, 6, include_self=include_self)
    same(found, pl.nearest_neighbors(features, 6, include_self=include_self))
    labels = torch.arange(30) % 3 - 1
    options = {"k": 6, "threshold": 0.4, "include_self": include_self}
    same(
        distributed.reliable_mask(features, labels, **options),
        pl.reliable_mask(features, labels, **options),
    )


@pytest.mark.parametrize("include_self", [False, True])
def test_the_default_device_is_not_asked(include_self):
    def answers():
        graph = distributed.nearest_neighbors(ROWS, 6, include_self=include_self)
        labels = distributed.prototype_labels(ROWS, GOOD["probs"], prior=[0.1, 0.2, 0.3, 0.4])
        served = distributed.prototype_labels(ROWS, GOOD["probs"], assignment="greedy")
        ratio = distributed.reliability_ratio(GOOD["labels"], graph)
        return (*graph, labels.labels, labels.indices, served.indices, ratio)

    expected = answers()
    with torch.device("meta"):
        same(answers(), expected)


def test_no_rank_holds_more_than_two_visiting_blocks_of_features():
    """Every large tensor that a rank makes of rows is counted as it is received."""

    def work(rank):
        received = []
        usual = dist.P2POp.__new__

        def counting(cls, act, tensor, *others, **options):
            if act is dist.irecv:
                received.append(tensor.numel())
            return usual(cls, act, tensor, *others, **options)

        dist.P2POp.__new__ = counting
        features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        gathers = []
        all_gather = dist.all_gather
        dist.all_gather = lambda *a, **o: gathers.append(a) or all_gather(*a, **o)
        distributed.nearest_neighbors(features[share((10, 20, 30), rank)], 5)
        return sorted(received), len(gathers)

    for rank, (received, gathers) in enumerate(on_ranks(3, work)):
        others = [size for owner, size in enumerate((10, 20, 30)) if owner != rank]
        assert received == [size * 8 * 4 for size in others]
        assert gathers == 0


# --- calls that are wrong on one rank ------------------------------------------------------------

ROWS = features_of("random")
GOOD = {"features": ROWS, "probs": probs_of("random"), "labels": torch.zeros(30, dtype=torch.int64)}


def by_metric(features, metric):
    return distributed.nearest_neighbors(features, 3, metric=metric)


def wrong_calls():
    labels, neighbors = distributed.prototype_labels, distributed.nearest_neighbors
    graph = torch.zeros(30, 2, dtype=torch.int64)
    for name, call, good, bad, said in (
        ("nan", neighbors, (ROWS, 3), (ROWS * torch.nan, 3), "features: expected finite"),
        ("rank", neighbors, (ROWS, 3), (ROWS[0], 3), "features: expected shape"),
        ("list", neighbors, (ROWS, 3), ([[1.0]], 3), "features: expected a floating-point tensor"),
        ("columns", neighbors, (ROWS, 3), (ROWS[:, :3], 3), "features: expected the same on every"),
        ("dtype", neighbors, (ROWS, 3), (ROWS.double(), 3), "features: expected the same on every"),
        ("k", neighbors, (ROWS, 3), (ROWS, 4), "k: expected the same on every rank, got"),
        ("metric", by_metric, (ROWS, "cosine"), (ROWS, "dot"), "metric: expected one of"),
        ("k of 0", neighbors, (ROWS, 0), (ROWS, 0), "k: expected"),
        ("large k", neighbors, (ROWS, 60), (ROWS, 60), r"k: expected .* other samples of all"),
        ("probs", labels, (ROWS, GOOD["probs"]), (ROWS, GOOD["probs"] + 1), "probs: expected prob"),
        ("rows", labels, (ROWS, GOOD["probs"]), (ROWS, GOOD["probs"][:9]), "probs: expected 30"),
        ("classes", labels, (ROWS, GOOD["probs"]), (ROWS, probs_of("random", classes=3)), "probs"),
        ("heads", labels, (ROWS, GOOD["probs"]), (ROWS, probs_of("random", (2,))), "probs: exp"),
        (
            "few",
            labels,
            (ROWS[:1], probs_of("random", count=1)),
            (ROWS[:1], probs_of("random", count=1)),
            "as many samples on all ranks as classes",
        ),
        (
            "labels",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"] - 2, graph),
            "labels: expected labels of -1",
        ),
        (
            "graph",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"], graph + 60),
            r"neighbors: expected indices in \[0, 59\]",
        ),
        (
            "width",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"], graph[:, :1]),
            "neighbors: expected the same on every rank",
        ),
        (
            "mask",
            distributed.reliable_mask,
            (ROWS, GOOD["labels"]),
            (ROWS, GOOD["labels"][:4]),
            "labels: expected 30 of them",
        ),
        (
            "device of probs",
            labels,
            (ROWS, GOOD["probs"]),
            (ROWS, GOOD["probs"].to("meta")),
            "probs: expected a tensor on cpu, got one on meta",
        ),
        (
            "device of labels",
            distributed.reliable_mask,
            (ROWS, GOOD["labels"]),
            (ROWS, GOOD["labels"].to("meta")),
            "labels: expected a tensor on cpu, got one on meta",
        ),
        (
            "device of the graph",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"], graph.to("meta")),
            "neighbors: expected a tensor on cpu, got one on meta",
        ),
        (
            "rank of the graph",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"], graph[0]),
            r"neighbors: expected shape \(N, k\)",
        ),
        (
            "graph of others",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"], graph[:9]),
            r"neighbors: expected shape \(30, k\), one row a label",
        ),
        (
            "heads of labels",
            distributed.reliability_ratio,
            (GOOD["labels"], graph),
            (GOOD["labels"].expand(2, 30), graph),
            r"labels: expected the same on every rank, got \('N',\) on rank 0 and \(2, 'N'\)",
        ),
        ("no dimension", neighbors, (ROWS, 3), (ROWS[:, :0], 3), "features: expected at least one"),
        (
            "no class",
            labels,
            (ROWS, GOOD["probs"]),
            (ROWS, GOOD["probs"][:, :0]),
            "features, probs: expected at least one dimension and one class",
        ),
    ):
        yield pytest.param(call, good, bad, said, id=name)


@pytest.mark.parametrize(("call", "good", "bad", "said"), list(wrong_calls()))
def test_what_is_wrong_on_one_rank_is_an_error_on_all(call, good, bad, said):
    errors = on_ranks(2, lambda rank: call(*(good if rank == 0 else bad)), timeout=20)
    for error in errors:
        assert isinstance(error, (ValueError, TypeError)), error
        with pytest.raises((ValueError, TypeError), match=said):
            raise error


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"assignment": "overlap"}, {"assignment": "nearest"}),
        ({"prior": [1.0, 1.0, 1.0, 1.0]}, {"prior": [1.0, 1.0, 1.0, 5.0]}),
        ({"prototype_ratio": 0.5}, {"prototype_ratio": 0.25}),
        ({"label_ratio": 0.5}, {"label_ratio": 0.25}),
        ({"metric": "cosine"}, {"metric": "euclidean"}),
    ],
)
def test_options_have_to_be_the_same_on_every_rank(options, other):
    def work(rank):
        return distributed.prototype_labels(ROWS, GOOD["probs"], **(other if rank else options))

    for error in on_ranks(2, work, timeout=20):
        assert isinstance(error, ValueError)
        assert str(error).startswith(f"{next(iter(options))}: expected the same on every rank")


def test_the_neighbours_are_found_within_the_limit_on_memory():
    with pytest.raises(ValueError, match=r"^memory_limit: expected"):
        distributed.reliable_mask(ROWS, GOOD["labels"], k=3, memory_limit=10)
    for limit, said in ((0, "an int of 1 or more"), (1, r"at least \d+ bytes")):
        with pytest.raises(ValueError, match=f"^memory_limit: expected {said}"):
            distributed.nearest_neighbors(ROWS, 3, memory_limit=limit)


def test_a_rank_that_is_done_first_keeps_the_server_of_the_others():
    """Of the tests themselves: else they would fail now and then."""

    def work(rank):
        if rank == 1:
            time.sleep(0.5)
            dist.distributed_c10d._get_default_store().add("still there", 1)

    assert on_ranks(2, work) == [None, None]


def test_a_group_without_this_rank_is_refused():
    def work(rank):
        group = dist.new_group([0])
        if rank == 1:
            with pytest.raises(ValueError, match="process_group: expected a group of this rank"):
                distributed.nearest_neighbors(ROWS, 3, process_group=group)

    assert on_ranks(2, work) == [None, None]


def test_checks_of_values_change_no_answer():
    labels, graph = torch.arange(30) % 3, pl.nearest_neighbors(ROWS, 4)
    with pl.check_values(False):
        unchecked = distributed.reliability_ratio(labels, graph)
    assert torch.equal(unchecked, pl.reliability_ratio(labels, graph))


@pytest.mark.parametrize("name", ["prototype_ratio", "label_ratio"])
def test_a_ratio_of_zero_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name}: expected a number in \(0, 1\], got 0.0"):
        distributed.prototype_labels(ROWS, GOOD["probs"], **{name: 0.0})


def test_neighbours_of_other_ranks_are_found_where_shards_are_of_very_different_sizes():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(40, 5, generator=generator), torch.arange(40) % 3
    neighbors = pl.nearest_neighbors(features, 6)
    expected = pl.reliability_ratio(labels, neighbors)
    shards = [slice(0, 37), slice(37, 39), slice(39, 40)]

    def work(rank):
        own = shards[rank]
        return distributed.reliability_ratio(labels[own], neighbors.indices[own])

    assert torch.equal(torch.cat(on_ranks(3, work)), expected)


def test_a_process_group_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="process_group: expected a process group or None"):
        distributed.nearest_neighbors(ROWS, 3, process_group="world")


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("operator", ["prototype_labels", "nearest_neighbors"])
def test_a_rank_that_dies_is_an_error_on_the_others_and_no_hang(operator, world):
    def work(rank):
        arguments = (ROWS, GOOD["probs"]) if operator == "prototype_labels" else (ROWS, 3)
        getattr(distributed, operator)(*arguments)  # all is well
        if rank == world - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(distributed, operator)(*arguments)

    start = time.monotonic()
    *others, dead = on_ranks(world, work, timeout=10)
    assert dead == signal.SIGKILL
    assert time.monotonic() - start < 40
    for error in others:
        assert isinstance(error, RuntimeError)
        assert "another rank of the process group has failed" in str(error)


def test_a_rank_that_dies_within_the_ring_is_an_error_too():
    def work(rank):
        from pseudolabel.distributed import neighbors

        if rank == 1:
            neighbors.single.nearest_neighbors = lambda *_, **__: os.kill(os.getpid(), 9)
        return distributed.nearest_neighbors(ROWS, 3)

    first, dead, third = on_ranks(3, work, timeout=10)
    assert dead == signal.SIGKILL
    for error in (first, third):
        assert isinstance(error, RuntimeError), error
        assert "another rank of the process group has failed" in str(error)
