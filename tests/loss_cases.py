"""Every masked loss as data: how to call it, its reference, and problems to call it with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import oracles_losses as oracle
import torch
from hypothesis import strategies as st
from strategies import HEADS, seeds

import pseudolabel as pl


class Problem(NamedTuple):
    """What a loss is called with."""

    inputs: torch.Tensor  # (*heads, B, K) logits or probabilities
    labels: torch.Tensor  # (*heads, B)
    constants: torch.Tensor  # (*heads, B) confidences or weights in [0, 1]
    sample_ids: torch.Tensor  # (*heads, B)

    def entries(self, index):
        """The same problem with the entries of the batch that `index` names."""
        inputs = self.inputs[..., index, :]
        return Problem(inputs, *(x[..., index] for x in self[1:]))

    def head(self, position):
        """One head of the problem."""
        return Problem(*(x[position] for x in self))

    def to(self, dtype):
        """The same problem in another precision."""
        return self._replace(inputs=self.inputs.to(dtype), constants=self.constants.to(dtype))

    def leaf(self):
        """The same problem with inputs that collect a gradient."""
        return self._replace(inputs=self.inputs.detach().clone().requires_grad_())


@dataclass(frozen=True)
class MaskedLoss:
    """A loss with one way to call it."""

    name: str
    function: Callable[..., torch.Tensor]
    reference: Callable[..., list[float]]
    options: dict[str, Any] = field(default_factory=dict)
    takes_constants: bool = False
    takes_ids: bool = False
    takes_probs: bool = False
    whole_batch: bool = False

    def __call__(self, problem, **options):
        """The library's value."""
        constants = [problem.constants] if self.takes_constants else []
        ids = {"sample_ids": problem.sample_ids} if self.takes_ids else {}
        return self.function(
            problem.inputs, problem.labels, *constants, **ids, **self.options, **options
        )

    def expected(self, problem, ignored=(-1,)):
        """The reference's value for every entry, float64 (*heads, B)."""
        if problem.labels.dim() > 1:
            heads = range(problem.labels.shape[0])
            return torch.stack([self.expected(problem.head(h), ignored) for h in heads])
        constants = [problem.constants.tolist()] if self.takes_constants else []
        ids = {"sample_ids": problem.sample_ids.tolist()} if self.takes_ids else {}
        values = self.reference(
            problem.inputs.tolist(),
            problem.labels.tolist(),
            *constants,
            **ids,
            **self.options,
            ignored=ignored,
        )
        return torch.tensor(values, dtype=torch.float64)

    def divisor(self, problem):
        """What "mean" divides the sum by: the valid entries, or the batch; never 0."""
        valid = torch.ones_like(problem.labels) if self.whole_batch else problem.labels >= 0
        return valid.sum(-1).clamp(min=1)


def scl(name, *, confidence=True, ids=False, **options):
    """A row of the table for one way to call the soft contrastive loss."""
    return MaskedLoss(
        f"soft_contrastive-{name}",
        pl.soft_contrastive_loss,
        oracle.soft_contrastive_loss,
        options,
        takes_constants=confidence,
        takes_ids=ids,
        takes_probs=True,
    )


LOSSES = [
    MaskedLoss(
        "double_softmax", pl.double_softmax_cross_entropy, oracle.double_softmax_cross_entropy
    ),
    MaskedLoss("consistency", pl.consistency_loss, oracle.consistency_loss, whole_batch=True),
    MaskedLoss(
        "consistency-weights",
        pl.consistency_loss,
        oracle.consistency_loss,
        takes_constants=True,
        whole_batch=True,
    ),
    scl("scale"),
    scl("weight", confidence_mode="weight"),
    scl("smooth", confidence_mode="smooth"),
    scl("literal", confidence_mode="literal"),
    scl("plain", confidence=False),
    scl("numerator", negatives=False),
    scl("positive", include_positive=True, temperature=0.2),
    scl("ids", ids=True, temperature=2.0),
    scl("everything", ids=True, include_positive=True, confidence_mode="smooth"),
]


def make_problem(loss, seed, heads=(), batch=7, classes=4, *, ignored=0.3, dtype=torch.float64):
    """A random problem; `ignored` is the share of unlabelled entries."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*heads, batch)
    inputs = 2 * torch.randn(*shape, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored] = -1
    constants = torch.rand(shape, generator=generator, dtype=torch.float64)
    ids = torch.randint(max(batch // 2, 1), shape, generator=generator)
    inputs = inputs.softmax(-1) if loss.takes_probs else inputs
    return Problem(inputs, labels, constants, ids).to(dtype)


ANY_HEADS = st.sampled_from(HEADS)


@st.composite
def problems(draw, loss, *, heads=ANY_HEADS, min_batch=0):
    """Problems of every small shape, from nothing ignored to everything."""
    return make_problem(
        loss,
        draw(seeds),
        draw(heads),
        draw(st.integers(min_batch, 7)),
        draw(st.integers(1, 5)),
        ignored=draw(st.sampled_from([0.0, 0.3, 1.0])),
    )
