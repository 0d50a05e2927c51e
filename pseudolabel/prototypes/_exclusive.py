"""Exclusive assignments: which cluster owns each sample when clusters compete.

Each rule takes similarities ``(*heads, K, M)`` and ``K`` counts that sum to at most ``M``, and
returns the owner of every sample, ``(*heads, M)``, -1 for none. Every cluster gets exactly its
count, except under `nearest_owners`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pseudolabel._numerics import sort_descending

_BITS = 47  # of a whole gain: prices grow up to 28 times as large (`_prices`)


def greedy_owners(similarity: Tensor, counts: Sequence[int]) -> Tensor:
    """Takes the globally closest free (cluster, sample) pair again and again, in few rounds.

    Both sides rank by the same numbers, so the greedy matching is the only stable one, and it is
    reached in parallel: every sample proposes to its best cluster that still admits it, and a
    cluster with enough proposals admits nobody below the last one it needs.
    """
    num_classes, num_samples = similarity.shape[-2:]
    _, order = sort_descending(similarity)
    places = torch.arange(num_samples, device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, places)
    quotas = torch.tensor(counts, device=order.device).unsqueeze(-1)
    clusters = torch.arange(num_classes, device=order.device).unsqueeze(-1)
    cutoff = torch.full_like(order[..., :1], num_samples)
    while True:
        admits = rank < cutoff
        wish = similarity.masked_fill(~admits, -torch.inf).argmax(-2, keepdim=True)
        proposes = admits & (wish == clusters)
        held = proposes.gather(-1, order).cumsum(-1)
        tightened = torch.minimum(cutoff, (held < quotas).sum(-1, keepdim=True) + 1)
        if torch.equal(tightened, cutoff):
            return torch.where(admits.any(-2), wish.squeeze(-2), -1)
        cutoff = tightened


def sequential_owners(similarity: Tensor, counts: Sequence[int]) -> Tensor:
    """Serves the clusters in index order: each takes its nearest samples among those left."""
    owner = torch.full_like(similarity[..., 0, :], -1, dtype=torch.int64)
    for cluster, count in enumerate(counts):
        free = similarity[..., cluster, :].masked_fill(owner >= 0, -torch.inf)
        _, order = sort_descending(free)
        owner = owner.scatter(-1, order[..., :count], cluster)
    return owner


def nearest_owners(similarity: Tensor, counts: Sequence[int]) -> Tensor:
    """Lets every cluster choose its nearest; a contested sample stays with its closest cluster."""
    _, order = sort_descending(similarity)
    places = torch.arange(similarity.shape[-1], device=order.device)
    within = places < torch.tensor(counts, device=order.device).unsqueeze(-1)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, within.expand_as(order))
    closest = similarity.masked_fill(~chosen, -torch.inf).argmax(-2)
    return torch.where(chosen.any(-2), closest, -1)


def optimal_owners(similarity: Tensor, counts: Sequence[int]) -> Tensor:
    """Maximises the total similarity: on the CPU, head by head, for ``M`` up to about 10,000.

    Similarities are told apart down to 1e-14 of the largest in size (1e-12 for 1,000 clusters).
    """
    heads = similarity.flatten(0, -3) if similarity.dim() > 2 else similarity.unsqueeze(0)
    owners = [_transport(head.double().cpu().numpy(), counts) for head in heads]
    stacked = np.stack(owners) if owners else np.empty(0, np.int64)
    shape = (*similarity.shape[:-2], similarity.shape[-1])
    return torch.from_numpy(stacked).reshape(shape).to(similarity.device)


def _transport(similarity: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Owners ``(M,)`` of largest total similarity, by cheapest paths over the clusters.

    One more node takes the samples that stay free. Whatever the prices, giving each sample to the
    node of largest similarity minus price is optimal for the loads that come out; samples are then
    moved along cheapest paths from overfull to underfull nodes, which keeps it optimal. Gains and
    prices are whole numbers: their sums are exact, so that no cycle ever looks cheaper than none.
    """
    num_classes, num_samples = similarity.shape
    quotas = np.array([*counts, num_samples - sum(counts)])
    gain = _whole_numbers(np.vstack([similarity, np.zeros(num_samples)]))
    owner: np.ndarray = np.argmax(gain - _prices(gain, quotas)[:, None], axis=0)
    excess = np.bincount(owner, minlength=num_classes + 1) - quotas
    loss = np.full((num_classes + 1, num_classes + 1), np.inf)  # of moving one sample
    mover = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    stale = list(range(num_classes + 1))
    while excess.any():
        for node in stale:
            members = np.flatnonzero(owner == node)
            if members.size == 0:
                loss[node] = np.inf
                continue
            losses = gain[node, members] - gain[:, members]
            best = losses.argmin(axis=1)
            mover[node], loss[node] = members[best], losses[np.arange(num_classes + 1), best]
        path = _cheapest_path(loss, excess)
        for source, target in pairwise(path):
            owner[mover[source, target]] = target
        excess[path[0]] -= 1
        excess[path[-1]] += 1
        stale = path
    owner[owner == num_classes] = -1
    return owner


def _whole_numbers(gain: np.ndarray) -> np.ndarray:
    """Gains on a scale on which they, their prices and sums along a path are exact in float64."""
    bits = min(_BITS, 51 - len(gain).bit_length())
    _, exponent = np.frexp(np.abs(gain).max())
    scaled: np.ndarray = np.rint(np.ldexp(gain, bits - exponent))
    return scaled


def _prices(gain: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Whole prices under which loads come near the quotas, so that few samples must be moved."""
    prices = np.zeros(len(gain))
    step = float(np.subtract(*np.quantile(gain, [0.95, 0.05]))) or 1.0
    best, fewest = prices, gain.shape[1] + 1
    for _ in range(60):
        loads = np.bincount(np.argmax(gain - prices[:, None], axis=0), minlength=len(gain))
        misplaced = int(np.abs(loads - quotas).sum()) // 2
        if misplaced < fewest:
            best, fewest = prices, misplaced
        prices = prices + step * (loads - quotas) / gain.shape[1]
        step *= 0.93
    rounded: np.ndarray = np.rint(best)
    return rounded


def _cheapest_path(loss: np.ndarray, excess: np.ndarray) -> list[int]:
    """Nodes of a cheapest path from an overfull node to an underfull one (Bellman-Ford)."""
    cost = np.where(excess > 0, 0.0, np.inf)
    previous = np.full(len(loss), -1)
    for _ in range(len(loss)):
        through = cost[:, None] + loss
        best = through.argmin(axis=0)
        reached = through[best, np.arange(len(loss))]
        better = reached < cost
        if not better.any():
            break
        cost, previous = np.where(better, reached, cost), np.where(better, best, previous)
    node = int(np.argmin(np.where(excess < 0, cost, np.inf)))
    path = [node]
    while previous[node] >= 0:
        node = int(previous[node])
        path.append(node)
    return path[::-1]
