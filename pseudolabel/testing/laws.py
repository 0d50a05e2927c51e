"""The laws, as plain functions: each raises a LawViolation where a rule breaks it on a case.

Laws about shuffling, renaming, scaling and the like speak of numbers that are clearly different. A
difference counts only where the rule's own answer does not hang on a tie or on rounding, which is
found out by moving every number a little, in opposite directions (`LabelingRule.is_clear`). These
laws return whether the case has decided anything: False where there was a difference and it did not
count.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from textwrap import indent

import numpy as np
import torch
from torch import Tensor

from pseudolabel.testing._comparing import (
    alike,
    compare,
    difference,
    judged,
    only_twins_differ,
    same_inputs,
    settled,
    twins_decide,
)
from pseudolabel.testing._literal import literal_mask, literal_selection
from pseudolabel.testing._shared_state import (
    drawn_from_random_state,
    random_state,
    settings_put_back,
)
from pseudolabel.testing._ties import (
    breaks_ties,
    by_index,
    equal_classes_in_order,
    equal_samples_in_order,
    only_pairs_tie,
    order_decides,
)
from pseudolabel.testing.cases import Case, nudged, sharpened, show
from pseudolabel.testing.rules import LabelingRule
from pseudolabel.testing.violation import LawViolation


def form(rule: LabelingRule, case: Case) -> None:
    """The rule answers, in the form its kind documents, or refuses with a ValueError."""
    rule(case)


def inputs_unchanged(rule: LabelingRule, case: Case) -> None:
    """The rule leaves its inputs as they were."""
    given = {name: x.clone() for name, x in case.inputs.items()}
    rule.ask(*given.values())
    same_inputs(case, given)
    wide = case.with_floats(torch.Tensor.double)  # of which a conversion to float64 is no copy
    given = {name: x.clone() for name, x in wide.inputs.items()}
    with suppress(Exception):  # a rule may decline the dtype
        rule.ask(*given.values())
    same_inputs(wide, given)


def determinism(rule: LabelingRule, case: Case, other: Case) -> None:
    """The same call answers the same, whatever was asked in between; no global state is used."""
    before = drawn_from_random_state()
    with settings_put_back() as changed:
        output = rule.function(*(x.clone() for x in case.inputs.values()))
    if changed:
        expected, got = "the settings of torch and NumPy left alone", f"another {changed[0]}"
        raise LawViolation("determinism", case, expected, got)
    if random_state() != before:
        expected, got = "the global random state left alone", "a rule that draws from it or sets it"
        raise LawViolation("determinism", case, expected, got)
    first = rule.read(output, case)
    rule(other)
    asked = "asked in between:\n" + indent(str(other), "    ")
    kept = rule.read(output, case)
    if not kept.same(first):
        raise difference("determinism", case, first, kept, asked + "\nthe first answer, read again")
    again = rule(case)
    if not again.same(first):
        raise difference("determinism", case, first, again, asked)


def sample_permutation(rule: LabelingRule, case: Case, order: Sequence[int]) -> bool:
    """Shuffling the samples shuffles the answer and changes nothing else."""
    changed, change = case.shuffled(order), f"samples in the order {show(list(order))}"
    expected = rule(case).shuffled(order)
    if rule(changed).same(expected):
        return True
    if only_pairs_tie(rule, case):
        return False
    return compare("sample_permutation", rule, case, changed, expected, change)


def class_permutation(rule: LabelingRule, case: Case, names: Sequence[int]) -> bool:
    """Renaming the classes renames the answer and changes nothing else."""
    if rule.kind == "selection" and case.num_samples == 1 and not rule.per_sample:
        return False  # relative to the batch, a single sample is of no class
    renamed = ", ".join(f"{c} -> {name}" for c, name in enumerate(names))
    changed, expected = case.renamed(names), rule(case).renamed(names)
    got = rule(changed)

    def clear() -> bool:
        twins = twins_decide(rule, case, names, expected, got)
        return not twins and rule.is_clear(case) and rule.is_clear(changed)

    change = f"changed: classes {renamed}"
    return settled("class_permutation", case, expected, got, change, clear)


def scale(rule: LabelingRule, case: Case, factors: Sequence[float]) -> bool:
    """Rows times positive factors (one for all unless the metric is the cosine) change nothing."""
    assert case.features is not None
    by = torch.tensor(factors, dtype=case.features.dtype).unsqueeze(-1)
    changed = replace(case, features=case.features * by)
    return compare("scale", rule, case, changed, rule(case), f"rows times {show(list(factors))}")


def rotation(rule: LabelingRule, case: Case, matrix: Tensor) -> bool:
    """Turning or mirroring all features together changes nothing."""
    assert case.features is not None
    turned = (case.features.double() @ matrix.double()).to(case.features.dtype)
    changed = replace(case, features=turned)
    return compare("rotation", rule, case, changed, rule(case), f"features times {show(matrix)}")


def translation(rule: LabelingRule, case: Case, offset: Sequence[float]) -> bool:
    """Moving all features by one vector changes nothing."""
    assert case.features is not None
    step = torch.tensor(offset).to(case.features)
    far = case.features + step
    near = replace(case, features=far - step)  # without what the sum has rounded away
    expected, got = rule(near), rule(replace(case, features=far))

    # Far from 0 numbers move far, too, so that only the near ones tell what hangs on rounding.
    def clear() -> bool:
        tied = only_twins_differ(rule, near, expected, got) or order_decides(rule, near)
        return not tied and rule.is_clear(near)

    change = f"changed: features plus {show(list(offset))}"
    return settled("translation", near, expected, got, change, clear)


def quota(rule: LabelingRule, case: Case) -> None:
    """Every class gets, or keeps, exactly its count, or at most its bound."""
    answer = rule(case)
    got = answer.count_by_class(case)
    for promised, words in ((rule.count, "exactly"), (rule.at_most, "at most")):
        if promised is None:
            continue
        wanted = torch.tensor(rule.counts(promised, case.num_samples, case.num_classes))
        if (got != wanted).any() if words == "exactly" else (got > wanted).any():
            expected = f"{words} {show(wanted)} samples of each class"
            raise LawViolation("quota", case, expected, f"{show(got)} samples, {answer}")


def exclusive(rule: LabelingRule, case: Case) -> None:
    """No sample carries two labels."""
    answer = rule(case)
    if (answer.given.sum(-1) > 1).any():
        raise LawViolation("exclusive", case, "at most one label a sample", str(answer))


def ties(rule: LabelingRule, case: Case) -> bool:
    """Equal samples and equal classes are taken by index, in the order that the rule promises."""
    backwards = rule.ties == "highest"
    answer = rule(case)
    equal_samples_in_order(rule, case, answer, backwards)
    equal_classes_in_order(rule, case, answer, backwards)
    # Rules rank single probabilities or whole rows; where it matters which, nothing is said.
    assert case.probs is not None
    in_order, same = (
        rule(replace(case, probs=f(case.probs, backwards))) for f in (nudged, sharpened)
    )
    if not in_order.chooses_as(same) or not breaks_ties(case, answer, in_order, backwards):
        return True
    if not rule.is_clear(case, keep_ties=True) or not by_index(rule, case, in_order):
        return False
    order = "more" if backwards else "less"
    change = f"the answer with ties, against that with every probability a trace {order} than"
    change += "\nthe one before it (samples in order, in each sample the classes in order)"
    raise difference("ties", case, in_order, answer, change)


def heads(rule: LabelingRule, case: Case) -> bool:
    """Every head is answered as if it were alone."""
    together = rule(case)
    axes = (case.probs if case.labels is None else case.labels).shape  # type: ignore[union-attr]
    decided = True
    for index in np.ndindex(*axes[: -1 if case.probs is None else -2]):
        one, change = case.head(index), f"head {show(list(index))} alone, then among all"
        clear = partial(rule.is_clear, one)
        decided &= settled("heads", case, rule(one), together.head(index), change, clear)
    return decided


def per_sample(rule: LabelingRule, case: Case) -> bool:
    """Every sample is answered as if it were alone."""
    together = rule(case)
    decided = True
    for sample in range(case.num_samples):
        one, change = case.shuffled([sample]), f"sample {sample} alone, as sample 0, then among all"
        got, clear = together.shuffled([sample]), partial(rule.is_clear, one)
        decided &= settled("per_sample", case, rule(one), got, change, clear)
    return decided


def monotone(rule: LabelingRule, case: Case, low: float, high: float) -> None:
    """A larger threshold chooses some of the samples that a smaller one chooses, and no other."""
    few, many = rule(case, high), rule(case, low)
    extra = few.chosen & ~many.chosen
    if extra.any():
        expected = f"of the samples chosen at {low:g} ({show(many.chosen)}) some, at {high:g}"
        raise LawViolation("monotone", case, expected, f"at {high:g}: {show(few.chosen)}")


def dtypes(rule: LabelingRule, case: Case, dtype: torch.dtype) -> bool:
    """The same numbers in another dtype, if the rule takes it, are answered the same."""
    rounded = case if dtype == torch.float64 else case.with_floats(lambda x: x.to(dtype))
    plain = rounded.with_floats(lambda x: x.float())
    if not all(bool(x.isfinite().all()) for x in plain.inputs.values()):
        return False
    return alike(
        "dtypes", rule, plain, rounded.with_floats(lambda x: x.to(dtype)), dtype, str(dtype)
    )


def devices(rule: LabelingRule, case: Case) -> bool:  # cuda
    """On a CUDA device the rule answers as on the CPU."""
    return alike("devices", rule, case, case.with_all(lambda x: x.cuda()), torch.float64, "on CUDA")


def layout(rule: LabelingRule, case: Case) -> bool:
    """Neither strides nor requires_grad change the answer."""
    transposed = case.with_all(lambda x: x.mT.contiguous().mT if x.dim() > 1 else x)
    spread = case.with_all(lambda x: torch.stack([x.flip(-1), x], -1)[..., 1])
    graph = case.with_floats(lambda x: x.clone().requires_grad_())
    forms = {
        "transposed in memory": transposed,
        "every other number of a larger tensor": spread,
        "that require a gradient": graph,
    }
    decided = [alike("layout", rule, case, x, torch.float64, how) for how, x in forms.items()]
    return all(decided)


def compiled(rule: LabelingRule, case: Case) -> bool:
    """Compiled, the rule answers as it does eagerly."""
    got, change = rule.compiled_rule(case), f"torch.compile(backend={rule.compiled!r})"
    return settled("compiled", case, rule(case), got, change, partial(rule.is_clear, case))


def ignored(rule: LabelingRule, case: Case, threshold: float | None = None) -> None:
    """A sample labelled -1 is never kept."""
    answer = rule(case, threshold)
    assert case.labels is not None
    if answer.given[case.labels < 0].any():
        change = "" if threshold is None else f"{rule.threshold_argument} = {threshold:g}"
        raise LawViolation("ignored", case, "no sample with label -1 kept", str(answer), change)


def literal(rule: LabelingRule, case: Case) -> None:
    """The answer is that of the literal rule with the promised k and threshold."""
    assert rule.threshold is not None
    answer = rule(case)
    if case.labels is not None and case.features is not None and rule.k is not None:
        verdict = literal_mask(
            case.features,
            case.labels,
            k=rule.k,
            threshold=rule.threshold,
            strict=rule.strict,
            include_self=rule.include_self,
            metric=rule.metric or "cosine",
            ties=rule.ties,
        )
        judged(case, answer, verdict, "kept")
    elif case.probs is not None:
        targets, verdict = literal_selection(case.probs, rule.threshold, rule.strict)
        judged(case, answer, verdict, "selected")
        top = case.probs.sort(-1, descending=True).values
        clear = rule.ties == "lowest" or (top[..., 0] - top[..., 1] > 1e-6)
        if ((answer.given != targets) & answer.chosen & clear).any():
            raise LawViolation("literal", case, f"targets = {show(targets)}", str(answer))


def reference(rule: LabelingRule, case: Case) -> bool:
    """The answer is that of the reference."""
    assert rule.reference is not None
    plain = replace(rule, function=rule.reference)
    clear = partial(plain.is_clear, case, keep_ties=rule.ties != "any")
    return settled("reference", case, plain(case), rule(case), "", clear)
