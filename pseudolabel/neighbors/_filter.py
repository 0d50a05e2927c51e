r"""Float32 rows for a fast first pass, and a proof of what the pass cannot have missed.

A float32 search ranks by numbers that are off by at most some :math:`\varepsilon`. Whatever it left
out is therefore at most :math:`2\varepsilon` nearer than the farthest of its candidates; once the
k-th nearest candidate, scored exactly, is nearer than that, nothing was missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Filter(NamedTuple):
    """How features become float32 rows: ``(x - centre) / scale``, or unit rows under the cosine.

    Attributes:
        metric: ``"cosine"`` or ``"euclidean"``.
        centre: float64 ``(D,)``, the mean; distances do not see it, roundings do.
        scale: float64 scalar, the largest norm of a centred row.
        reach: float64 scalar, the largest norm of a row, in units of scale.
    """

    metric: str
    centre: Tensor
    scale: Tensor
    reach: Tensor

    def rows(self, x: Tensor) -> Tensor:
        """The float32 rows ``(B, D)`` that a backend compares."""
        if self.metric == "cosine":
            x = x.double() / _positive(x.abs().amax(-1, keepdim=True).double())
            return (x / _positive(torch.linalg.vector_norm(x, dim=-1, keepdim=True))).float()
        return ((x.double() - self.centre) / self.scale).float()

    def settles(self, rows: Tensor, kth: Tensor, worst: Tensor) -> Tensor:
        """Whether nothing that a search left out can be among the k nearest.

        Args:
            rows: The queries' float32 rows ``(B, D)``.
            kth: Exact similarity of the k-th nearest candidate, ``(B,)``.
            worst: Exact similarity of the farthest candidate, ``(B,)``.

        Returns:
            bool ``(B,)``.
        """
        # |fl(a.b) - a.b| <= D u / (1 - D u) |a| |b| in any order of summation; a few more u for
        # rounding the rows to float32, and for the |a|^2 + |b|^2 of a distance.
        error = (rows.shape[-1] + 16) * _unit_roundoff()
        error = error / (1 - error) if error < 1 else float("inf")
        if self.metric == "cosine":
            return kth > worst + 2 * error
        reach = torch.linalg.vector_norm(rows.double(), dim=-1) + 1
        error = (error + 2.0**-50 * self.reach) * reach * reach
        settled: Tensor = (kth / self.scale).square() < (worst / self.scale).square() - 2 * error
        return settled


def make_filter(
    blocks: Callable[[], Iterator[Tensor]], metric: str, device: torch.device
) -> Filter:
    """The filter for features that come in blocks of rows."""
    one = torch.ones((), dtype=torch.float64, device=device)
    if metric == "cosine":
        return Filter(metric, 0 * one, one, one)
    count = sum(len(block) for block in blocks())
    centre = torch.stack([(block.double() / count).sum(0) for block in blocks()]).sum(0)
    scale = torch.stack([_largest_norm(block.double() - centre) for block in blocks()]).max()
    largest = torch.stack([_largest_norm(block.double()) for block in blocks()]).max()
    scale = _positive(scale)
    return Filter(metric, centre, scale, largest / scale)


def _largest_norm(x: Tensor) -> Tensor:
    unit = _positive(x.abs().max())  # squares of huge rows stay finite
    norm: Tensor = torch.linalg.vector_norm(x / unit, dim=-1).max()
    return unit * norm


def _positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1)


def _unit_roundoff() -> float:
    """Of float32 products as they are configured: TF32 and bfloat16 keep fewer bits."""
    try:
        full = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # configured backend by backend: whichever it is, assume the least
        full = False
    return 2.0**-24 if full else 2.0**-8
