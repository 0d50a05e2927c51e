"""The neighbour oracle, on cases worked by hand."""

import oracles
import pytest

LINE = [[0.0], [1.0], [3.0], [7.0]]


def test_on_a_line():
    indices, values = oracles.nearest_neighbors(LINE, 2, metric="euclidean")
    assert indices == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert values == [[-1, -3], [-1, -2], [-2, -3], [-4, -6]]


def test_with_itself_and_with_queries():
    indices, _ = oracles.nearest_neighbors(LINE, 2, metric="euclidean", include_self=True)
    assert indices == [[0, 1], [1, 0], [2, 1], [3, 2]]
    indices, values = oracles.nearest_neighbors(LINE, 4, metric="euclidean", queries=[[2.0]])
    assert indices == [[1, 2, 0, 3]]  # 1 and 3 are both one away
    assert values == [[-1, -1, -2, -5]]


def test_duplicates_come_by_index_and_self_keeps_its_place():
    rows = [[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [4.0, 0.0], [0.0, 0.0]]
    indices, values = oracles.nearest_neighbors(rows, 3)
    assert indices == [[1, 3, 2], [0, 3, 2], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert values[0] == [1, 1, 0]
    assert values[4] == [0, 0, 0]
    indices, _ = oracles.nearest_neighbors(rows, 2, include_self=True)
    assert indices[3] == [0, 3]
    assert indices[4] == [0, 4]


def test_the_cosine_divides_by_both_lengths():
    _, values = oracles.nearest_neighbors([[3.0, 4.0], [0.0, 9.0]], 1)
    assert values == [[pytest.approx(0.8)], [pytest.approx(0.8)]]
