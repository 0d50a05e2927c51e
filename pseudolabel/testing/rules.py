"""A labelling rule with what it promises."""

from __future__ import annotations

import dis
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import check_option
from pseudolabel.testing._shared_state import settings_put_back
from pseudolabel.testing.answers import Answer
from pseudolabel.testing.cases import Case, show
from pseudolabel.testing.violation import LawViolation
from pseudolabel.types import PseudoLabels

Kind = Literal["labels", "mask", "selection"]
Counts = int | Sequence[int] | Callable[[int, int], int | Sequence[int]]
KINDS = ("labels", "mask", "selection")
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_TRIALS = 4
_MANY = 64  # samples


@dataclass(frozen=True, kw_only=True)
class LabelingRule:
    """A rule under test and what it promises. A promise that is not made is not checked.

    Attributes:
        function: The rule. By kind: ``"labels"``: ``(features, probs)`` to PseudoLabels, labels
            ``(N,)`` with -1 for none, or bool ``(N, K)``; ``"mask"``: ``(features, labels)`` to
            bool ``(N,)``; ``"selection"``: ``(probs)`` to a Selection or ``(targets, weights)``.
        kind: One of the three.
        metric: What distances mean: ``"cosine"`` (only the directions of features matter),
            ``"euclidean"`` (only differences, and only beside each other: a rule with a distance
            of its own, a margin say, skips the law ``"scale"``), ``"dot"`` (only products), None
            promises nothing.
        ties: Equal samples and equal classes: ``"lowest"`` or ``"highest"`` index first, or
            ``"any"``.
        count: Exactly how many samples every class gets, or keeps: an int, K ints, or a function of
            ``(num_samples, num_classes)`` that returns either.
        at_most: The same as an upper bound.
        exclusive: Whether no sample carries two labels.
        heads: Whether the rule takes leading dimensions, every head on its own.
        per_sample: Whether (``"selection"``) the answer to a sample depends on its row alone.
        threshold_argument: Name of a keyword that chooses fewer samples the larger it is.
        thresholds: The range to draw that keyword from.
        k: ``"mask"``: the number of neighbours; cases then have more samples. With `threshold`, the
            mask must be the literal one: the share of a sample's k neighbours that carry its label,
            against the threshold.
        threshold: ``"mask"``: that threshold; ``"selection"``: the least largest probability.
        strict: Whether the threshold itself is left out.
        include_self: Whether a sample is one of its own k neighbours.
        reference: Another callable of the same signature that must answer the same.
        compiled: A ``torch.compile`` backend under which the rule must answer the same.
        dtypes: The dtypes besides float32 in which it must answer the same, if it takes them.
        num_samples: Bounds of N; None finds out how many samples the rule needs.
        num_classes: Bounds of K, or one number; None finds out what the rule takes in 2 to 4.
        num_features: D, or its bounds.
        refuses: Exceptions that the rule may raise to decline a case.
    """

    function: Callable[..., Any]
    kind: Kind
    metric: Literal["cosine", "euclidean", "dot"] | None = None
    ties: Literal["lowest", "highest", "any"] = "lowest"
    count: Counts | None = None
    at_most: Counts | None = None
    exclusive: bool = False
    heads: bool = False
    per_sample: bool = False
    threshold_argument: str | None = None
    thresholds: tuple[float, float] = (0.0, 1.0)
    k: int | None = None
    threshold: float | None = None
    strict: bool = True
    include_self: bool = False
    reference: Callable[..., Any] | None = None
    compiled: str | None = None
    dtypes: Sequence[torch.dtype] = (torch.float64, torch.bfloat16, torch.float16)
    num_samples: tuple[int, int] | None = None
    num_classes: int | tuple[int, int] | None = None
    num_features: int | tuple[int, int] = (2, 4)
    refuses: tuple[type[Exception], ...] = (ValueError, NotImplementedError)

    def __post_init__(self) -> None:
        check_option("kind", self.kind, KINDS)
        check_option("ties", self.ties, ("lowest", "highest", "any"))
        if self.metric is not None:
            check_option("metric", self.metric, ("cosine", "euclidean", "dot"))

    def __call__(self, case: Case, threshold: float | None = None) -> Answer:
        """The rule's answer to copies of the inputs, checked for its form."""
        inputs = [x.clone() for x in case.inputs.values()]
        named = self.threshold_argument
        options = {} if named is None or threshold is None else {named: threshold}
        return self.read(self.ask(*inputs, **options), case)

    def ask(self, *inputs: Tensor, **options: float) -> object:
        """What the rule returns; settings that it changes are put back, for other laws' sake."""
        with settings_put_back():
            return self.function(*inputs, **options)

    def declines_by(self, error: Exception | None) -> bool:
        """Whether a `raise` declined the case, and not a call or an unpacking that went wrong."""
        if not isinstance(error, self.refuses):
            return False
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        if last is None:
            return True
        code, place = last.tb_frame.f_code.co_code, last.tb_lasti
        return place < len(code) and dis.opname[code[place]] == "RAISE_VARARGS"

    @cached_property
    def compiled_rule(self) -> LabelingRule:
        """The rule, compiled by the promised backend."""
        function = torch.compile(self.function, backend=self.compiled or "inductor")
        return replace(self, function=function)

    def is_clear(self, case: Case, size: float | None = None, *, keep_ties: bool = False) -> bool:
        """Whether the answer stands still when every number moves a little, in any direction.

        Where it does not, it hangs on a tie or on rounding, and most laws promise nothing. Equal
        rows are never clear, unless ties are kept: moving does not tell their order. By default
        numbers move by a thousandth of their size, less where many lie close to each other.
        """
        if size is None:
            size = 1e-3 if case.num_samples <= _MANY else 1e-4
        if not case.is_distinct(self.metric, 5 * size, keep_ties=keep_ties):
            return False
        moves = [(seed, sign) for seed in range(_TRIALS) for sign in (1, -1)]
        try:
            before = self(case)
            return all(
                self(case.moved(self.metric, *move, size, keep_ties=keep_ties)).same(before)
                for move in moves
            )
        except Exception:
            return False

    def equal_counts(self, num_samples: int, num_classes: int) -> list[list[int]]:
        """The classes, grouped by what is promised to them."""
        groups: dict[tuple[int, ...], list[int]] = {}
        promised = [n for n in (self.count, self.at_most) if n is not None]
        for c in range(num_classes):
            key = tuple(self.counts(n, num_samples, num_classes)[c] for n in promised)
            groups.setdefault(key, []).append(c)
        return list(groups.values())

    def counts(self, promised: Counts, num_samples: int, num_classes: int) -> list[int]:
        """A promised count, for every class."""
        value = promised(num_samples, num_classes) if callable(promised) else promised
        if isinstance(value, (int, np.integer)):
            return [int(value)] * num_classes
        return [int(n) for n in value]

    def read(self, output: object, case: Case) -> Answer:
        """Brings what the rule returned into one form, or says what is wrong with the form."""
        lead = next(iter(reversed(case.inputs.values()))).shape
        shape = tuple(lead if self.kind == "mask" else lead[:-1])
        if self.kind == "labels":
            return Answer("labels", _read_labels(output, shape, case))
        if self.kind == "mask":
            if not isinstance(output, Tensor) or output.dtype != torch.bool:
                _malformed(case, "a bool tensor", output)
            _expect_shape(case, "the mask", output, shape)
            return Answer("mask", output.detach().cpu().clone())
        return _read_selection(output, shape, case)


def _read_labels(output: object, shape: tuple[int, ...], case: Case) -> Tensor:
    num_samples, num_classes = case.num_samples, case.num_classes
    if isinstance(output, PseudoLabels):
        taken, labels = output.indices >= 0, output.labels
        if not torch.equal(taken, labels >= 0):
            _malformed(case, "-1 among the labels exactly where the indices are -1", labels)
        if (output.indices >= num_samples).any() or (output.indices < -1).any():
            _malformed(case, f"indices in [-1, {num_samples - 1}]", output.indices)
        if (labels >= num_classes).any():
            _malformed(case, f"labels in [-1, {num_classes - 1}]", labels)
        carried = output.multi_hot(num_samples)
        if int(carried.sum()) != int(taken.sum()):
            _malformed(case, "no sample twice under one label", output.indices)
        output = carried
    if not isinstance(output, Tensor):
        _malformed(case, "PseudoLabels, labels (N,) or bool (N, K)", output)
    if output.dtype == torch.bool:
        _expect_shape(case, "the labels", output, (*shape, num_classes))
        return output.detach().cpu().clone()
    if output.dtype not in INTEGERS:
        _malformed(case, "int64 labels or a bool tensor", output)
    _expect_shape(case, "the labels", output, shape)
    if ((output < -1) | (output >= num_classes)).any():
        _malformed(case, f"labels in [-1, {num_classes - 1}]", output)
    return output.detach().cpu().unsqueeze(-1) == torch.arange(num_classes)


def _read_selection(output: object, shape: tuple[int, ...], case: Case) -> Answer:
    if not isinstance(output, tuple) or len(output) != 2:
        _malformed(case, "a Selection, or targets and weights", output)
    targets, weights = output
    if not isinstance(targets, Tensor) or targets.dtype not in INTEGERS:
        _malformed(case, "int64 targets", targets)
    if not isinstance(weights, Tensor):
        _malformed(case, "weights as a tensor", weights)
    _expect_shape(case, "the targets", targets, shape)
    _expect_shape(case, "the weights", weights, shape)
    if ((targets < -1) | (targets >= case.num_classes)).any():
        _malformed(case, f"targets in [-1, {case.num_classes - 1}]", targets)
    wide = weights.detach().cpu().double()
    if not ((wide >= 0) & (wide <= 1)).all():
        _malformed(case, "weights in [0, 1]", weights)
    return Answer("selection", targets.detach().cpu().long().clone(), wide)


def _expect_shape(case: Case, what: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        got = f"{what} of shape {tuple(x.shape)}"
        raise LawViolation("form", case, f"{what} of shape {shape}", got)


def _malformed(case: Case, expected: str, got: object) -> NoReturn:
    shown = f"{got.dtype} {show(got)}" if isinstance(got, Tensor) else f"a {type(got).__name__}"
    raise LawViolation("form", case, expected, shown)
