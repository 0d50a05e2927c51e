"""What labelling rules answer, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel.testing.cases import Case, rename, show

SAME_WEIGHT = 1e-2


class Answer(NamedTuple):
    """What a rule said, whatever form it came in.

    Attributes:
        kind: The kind of the rule.
        given: ``"labels"``: bool ``(*heads, N, K)``, which labels each sample carries; ``"mask"``:
            bool ``(*heads, N)``; ``"selection"``: int64 targets ``(*heads, N)``.
        weights: float64 ``(*heads, N)`` for ``"selection"``, else None.
    """

    kind: str
    given: Tensor
    weights: Tensor | None = None

    @property
    def chosen(self) -> Tensor:
        """The samples that are labelled, kept or selected: bool ``(*heads, N)``."""
        if self.weights is not None:
            return self.weights > 0
        return self.given.any(-1) if self.kind == "labels" else self.given

    def same(self, other: Answer) -> bool:
        """Whether two answers agree; weights may differ by rounding in half precision."""
        return self.given.shape == other.given.shape and not self.differs(other).any()

    def differs(self, other: Answer) -> Tensor:
        """Where two answers of one shape disagree: bool ``(*heads, N)``."""
        differs = self.given != other.given
        if self.kind == "labels":
            differs = differs.any(-1)
        if self.weights is not None and other.weights is not None:
            differs = differs | ((self.weights - other.weights).abs() > SAME_WEIGHT)
        return differs

    def chooses_as(self, other: Answer) -> bool:
        """Whether two answers agree in targets and in who is chosen, whatever the weights."""
        return torch.equal(self.given, other.given) and torch.equal(self.chosen, other.chosen)

    def columns(self) -> Tensor:
        """What each sample got, as numbers ``(N, columns)``."""
        if self.kind == "labels":
            return self.given.long()
        return torch.stack([self.given.long(), self.chosen.long()], -1)

    def count_by_class(self, case: Case) -> Tensor:
        """How many samples each class got, or kept of its own: ``(*heads, K)``."""
        if self.kind == "labels":
            return self.given.sum(-2)
        targets = self.given if case.labels is None else case.labels
        own = targets.unsqueeze(-1) == torch.arange(case.num_classes)
        return (own & self.chosen.unsqueeze(-1)).sum(-2)

    def shuffled(self, order: Sequence[int]) -> Answer:
        """The answer to the shuffled case, if sample order means nothing."""
        axis, index = (-2 if self.kind == "labels" else -1), torch.tensor(order)
        weights = None if self.weights is None else self.weights.index_select(-1, index)
        return Answer(self.kind, self.given.index_select(axis, index), weights)

    def renamed(self, names: Sequence[int]) -> Answer:
        """The answer to the renamed case, if the names of the classes mean nothing."""
        if self.kind == "labels":
            given = torch.empty_like(self.given).index_copy_(-1, torch.tensor(names), self.given)
        else:
            given = self.given if self.kind == "mask" else rename(self.given, names)
        return Answer(self.kind, given, self.weights)

    def head(self, index: Sequence[int]) -> Answer:
        """One head alone."""
        where = tuple(index)
        weights = None if self.weights is None else self.weights[where]
        return Answer(self.kind, self.given[where], weights)

    def __str__(self) -> str:
        if self.kind == "labels":
            return f"labels = {show(_as_lists(self.given))}"
        if self.weights is None:
            return f"mask = {show(self.given)}"
        return f"targets = {show(self.given)}, weights = {show(self.weights)}"

    def against(self, expected: Answer) -> str:
        """The first sample on which this answer differs from what was expected, in words."""
        if self.given.shape != expected.given.shape:
            return f"an answer of shape {tuple(self.given.shape)}"
        *head, sample = (int(i) for i in self.differs(expected).nonzero()[0])
        at = (*head, sample)
        where = f"head {show(head)}, sample {sample}" if head else f"sample {sample}"
        return f"{where} {expected._says(at, 'should')}, but {self._says(at, 'does')}"

    def _says(self, at: tuple[int, ...], verb: str) -> str:
        should = verb == "should"
        if self.kind == "labels":
            labels = self.given[at].nonzero().flatten().tolist()
            said = "no label" if not labels else "label " + " and ".join(map(str, labels))
            return f"should carry {said}" if should else f"carries {said}"
        if self.weights is None:
            if should:
                return "should be kept" if self.given[at] else "should be left out"
            return "is kept" if self.given[at] else "is left out"
        said = f"target {int(self.given[at])} and weight {show(float(self.weights[at]))}"
        return f"should have {said}" if should else f"has {said}"


def _as_lists(carried: Tensor) -> object:
    """Labels as people write them: -1 for none, a number for one, a list for several."""
    if carried.dim() > 1:
        return [_as_lists(row) for row in carried]
    labels = carried.nonzero().flatten().tolist()
    return -1 if not labels else labels[0] if len(labels) == 1 else labels
