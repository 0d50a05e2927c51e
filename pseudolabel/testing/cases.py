"""Cases: what a labelling rule is asked, how it is changed on purpose, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

_ROWS_SHOWN = 12


@dataclass(frozen=True)
class Case:
    """One call of a rule: only the inputs that its kind takes are there.

    Attributes:
        num_classes: K.
        features: ``(N, D)``, for rules of the kinds ``"labels"`` and ``"mask"``.
        probs: ``(*heads, N, K)``, for ``"labels"`` and ``"selection"``.
        labels: int64 ``(*heads, N)`` with -1 for unlabelled, for ``"mask"``.
    """

    num_classes: int
    features: Tensor | None = None
    probs: Tensor | None = None
    labels: Tensor | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The inputs in the order in which a rule takes them, by name."""
        named = {"features": self.features, "probs": self.probs, "labels": self.labels}
        return {name: x for name, x in named.items() if x is not None}

    @property
    def num_samples(self) -> int:
        """N."""
        if self.features is not None:
            return len(self.features)
        return next(iter(self.inputs.values())).shape[-2]

    def with_floats(self, change: Callable[[Tensor], Tensor]) -> Case:
        """The case with its features and probabilities passed through a function."""
        floats = {name: change(x) for name, x in self.inputs.items() if x.dtype.is_floating_point}
        return replace(self, **floats)  # type: ignore[arg-type]

    def with_all(self, change: Callable[[Tensor], Tensor]) -> Case:
        """The case with every input passed through a function."""
        return replace(self, **{name: change(x) for name, x in self.inputs.items()})  # type: ignore[arg-type]

    def shuffled(self, order: Sequence[int]) -> Case:
        """The samples in another order: sample ``order[i]`` becomes sample ``i``."""
        index = list(order)
        return replace(
            self,
            features=None if self.features is None else self.features[index],
            probs=None if self.probs is None else self.probs[..., index, :],
            labels=None if self.labels is None else self.labels[..., index],
        )

    def renamed(self, names: Sequence[int]) -> Case:
        """The classes renamed: class ``c`` becomes class ``names[c]``; -1 stays."""
        probs = self.probs
        if probs is not None:
            probs = torch.empty_like(probs).index_copy_(-1, torch.tensor(names), probs)
        return replace(
            self,
            probs=probs,
            labels=None if self.labels is None else rename(self.labels, names),
        )

    def head(self, index: Sequence[int]) -> Case:
        """One head alone."""
        where = tuple(index)
        return replace(
            self,
            probs=None if self.probs is None else self.probs[where],
            labels=None if self.labels is None else self.labels[where],
        )

    def moved(
        self, metric: str | None, seed: int, sign: int, size: float, *, keep_ties: bool = False
    ) -> Case:
        """Every float moved a little; with ``keep_ties`` what is equal stays equal.

        The two signs move in opposite directions, so a tie that one of them breaks in one way the
        other breaks in the other way.
        """
        rng = np.random.default_rng(seed)
        return replace(
            self,
            features=_moved_rows(self.features, metric, rng, sign * size, keep_ties),
            probs=_moved_probs(self.probs, rng, sign * size, keep_ties),
        )

    def without_copies(self) -> Case:
        """The first of equal samples alone."""
        rows = torch.cat([x.reshape(self.num_samples, -1) for x in self.inputs.values()], -1)
        first: dict[tuple[float, ...], int] = {}
        for sample, row in enumerate(rows.tolist()):
            first.setdefault(tuple(row), sample)
        return self.shuffled(list(first.values()))

    def parted(self) -> Case:
        """The case with equal features moved a little apart where the probabilities differ."""
        if self.features is None or self.probs is None:
            return self
        rows = torch.cat([self.features, self.probs], -1)
        groups = torch.unique(rows, dim=0, return_inverse=True)[1]
        noise = np.random.default_rng(0).uniform(-1, 1, self.features.shape)
        lengths = self.features.double().norm(dim=-1, keepdim=True)
        size = 1e-3 * torch.where(lengths > 0, lengths, 1.0)
        moved = self.features.double() + size * torch.from_numpy(noise)[groups]
        return replace(self, features=moved.to(self.features.dtype))

    def is_distinct(self, metric: str | None, size: float, *, keep_ties: bool = False) -> bool:
        """Whether no two rows, and no two probabilities that compete, are nearly equal.

        With ``keep_ties`` equal ones may occur, but none that are nearly equal.
        """
        return (
            self.features is None or _rows_are_distinct(self.features, metric, size, keep_ties)
        ) and (self.probs is None or keep_ties or _one_is_largest(self.probs))

    def twin_classes(self, most: int) -> list[tuple[int, int]]:
        """Pairs of classes with the same best samples, ``most`` at most: with one prototype."""
        if self.features is None or self.probs is None:
            return []
        columns = self.probs.detach().cpu().unbind(-1)
        pairs = combinations(range(self.num_classes), 2)
        return [(a, b) for a, b in pairs if _bests_are_the_same(columns[a], columns[b], most)]

    def unshown(self, sample: int) -> str:
        """The inputs of a sample that is too far down the lists to be shown; of others nothing."""
        if sample < _ROWS_SHOWN:
            return ""
        rows = {
            name: x[..., sample] if name == "labels" else x[..., sample, :]
            for name, x in self.inputs.items()
        }
        return "".join(f"\nits {name} = {show(row)}" for name, row in rows.items())

    def __str__(self) -> str:
        return "\n".join(f"{name} = {show(x)}" for name, x in self.inputs.items())


def rename(labels: Tensor, names: Sequence[int]) -> Tensor:
    """Labels under the new names of their classes; -1 stays."""
    return torch.tensor([*names, -1])[labels]  # the last place is read by -1


def nudged(probs: Tensor, backwards: bool) -> Tensor:
    """Every entry a trace below the one before it, so that ties are decided by index.

    A share of itself: where a class has no probability at all, a trace of it would be everything.
    """
    size = probs.shape[-2] * probs.shape[-1]
    order = torch.arange(size, dtype=torch.float64).reshape(probs.shape[-2:])
    order = order.flip(0, 1) if backwards else order
    return (probs.double() * (1 - min(1e-5, 1e-4 / size) * order)).to(probs.dtype)


def sharpened(probs: Tensor, backwards: bool) -> Tensor:
    """Every row a trace surer than the one after it, and in each row the first classes likelier.

    Ties are decided by index for rules that rank whole rows, by their entropy for one.
    """
    num_samples, num_classes = probs.shape[-2:]
    surer = torch.arange(num_samples, 0, -1, dtype=torch.float64) / num_samples
    likelier = torch.arange(num_classes, dtype=torch.float64).flip(0)
    surer, likelier = (surer.flip(0), likelier.flip(0)) if backwards else (surer, likelier)
    wide = (probs.double() - 1 / num_classes) * (1 - 2e-3 + 1e-3 * surer.unsqueeze(-1))
    return (wide + 1 / num_classes + 3e-7 * (likelier - likelier.mean())).to(probs.dtype)


def show(x: object) -> str:
    """A tensor or nested list as a short Python list."""
    if isinstance(x, Tensor):
        x = x.detach().cpu().tolist()
    if isinstance(x, list):
        shown = [show(entry) for entry in x[:_ROWS_SHOWN]]
        rest = f"... {len(x)} in all" if len(x) > _ROWS_SHOWN else None
        return "[" + ", ".join([*shown, rest] if rest else shown) + "]"
    if isinstance(x, float):
        return repr(float(f"{x:.4g}")) if f"{x:.4g}" != "1" or x == 1 else f"{x:.8g}"
    return str(x)


def _rows_are_distinct(features: Tensor, metric: str | None, size: float, keep_ties: bool) -> bool:
    """Under the Euclidean metric rows differ; otherwise they lie on different lines.

    A prototype of opposite rows is on their line, too: its cosine with them, 1 or -1, stands still
    when they move a little, and rounding decides between two.
    """
    rows = features.detach().cpu().double()
    if keep_ties:
        rows = torch.unique(rows, dim=0)
    lengths = rows.norm(dim=-1)
    if metric == "euclidean":
        scale = torch.maximum(lengths, lengths.unsqueeze(-1))
    else:
        some = lengths > 0
        if (~some).any() and not keep_ties:
            return False
        rows, scale = rows[some] / lengths[some, None], torch.ones(1, dtype=torch.float64)
    apart = (rows.unsqueeze(1) - rows).norm(dim=-1)
    if metric != "euclidean":
        apart = torch.minimum(apart, (rows.unsqueeze(1) + rows).norm(dim=-1))
    return not (apart <= size * scale).fill_diagonal_(False).any()


def _one_is_largest(probs: Tensor) -> bool:
    """No two classes are the most probable of a sample."""
    if probs.shape[-1] == 1:
        return True
    top = probs.detach().cpu().double().topk(2).values
    return bool((top[..., 0] - top[..., 1] > 1e-6).all())


def _bests_are_the_same(one: Tensor, other: Tensor, most: int) -> bool:
    """Whether the m largest of ``(..., N)`` are the same samples as of another, for some m."""
    num_samples = one.shape[-1]
    place = torch.maximum(*(x.argsort(-1, descending=True).argsort(-1) for x in (one, other)))
    # They are where the larger of two places stays below m.
    same = place.sort(-1).values == torch.arange(num_samples)
    return bool(same[..., : max(1, most)].any())


def _moved_rows(
    rows: Tensor | None, metric: str | None, rng: np.random.Generator, size: float, keep_ties: bool
) -> Tensor | None:
    """Rows moved by a share of their own length; a zero row stays, unless it is just a point."""
    if rows is None:
        return None
    lengths: Tensor = rows.double().norm(dim=-1, keepdim=True)
    some = lengths[lengths > 0]
    if metric == "euclidean":
        lengths = torch.where(lengths > 0, lengths, some.median() if len(some) else 1.0)
    noise: Tensor = torch.from_numpy(rng.uniform(-1, 1, rows.shape))
    if keep_ties:
        noise = noise[torch.unique(rows, dim=0, return_inverse=True)[1]]
    return (rows.double() + size * lengths * noise).to(rows.dtype)


def _moved_probs(
    probs: Tensor | None, rng: np.random.Generator, size: float, keep_ties: bool
) -> Tensor | None:
    """Probabilities moved, after those next to 0 and 1 are drawn in so that they can move too.

    Rows that sum to 1 keep their sum, so that the two signs move every entry to either side. With
    ``keep_ties`` they move by a share of themselves: what is equal, or 0, stays so, and so does
    1/2 of two classes: some rules look at one of them alone.
    """
    if probs is None:
        return None
    wide = probs.double()
    noise: Tensor = torch.from_numpy(rng.uniform(-1, 1, probs.shape))
    if keep_ties:
        noise = noise.flatten()[torch.unique(probs, return_inverse=True)[1]]
        moved = wide * (1 - abs(size) + size * noise)
        halves = (wide == 0.5) & (probs.shape[-1] == 2)
        return torch.where(halves, wide, moved).to(probs.dtype)
    sums_to_1 = ((wide.sum(-1) - 1).abs() < 1e-3).all()
    wide = wide.clamp(2 * abs(size), 1 - 2 * abs(size))
    if sums_to_1 and probs.shape[-1] > 1:
        wide = wide / wide.sum(-1, keepdim=True)
        noise = noise - noise.mean(-1, keepdim=True)
    return (wide + size * noise).clamp(0, 1).to(probs.dtype)
