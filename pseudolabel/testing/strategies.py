"""Hypothesis strategies for what breaks labelling rules.

Every sample is drawn on its own, so that failing cases lose samples and digits until little is
left. The styles are drawn too, simplest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from pseudolabel.testing._rows import (
    FEATURE_STYLES,
    PROB_STYLES,
    Decoder,
    feature_decoder,
    label_decoder,
    prob_decoder,
)
from pseudolabel.testing.cases import Case

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

dtypes = st.sampled_from(DTYPES)


def _rows(decoder: Decoder, total: int) -> st.SearchStrategy[list[list[float]]]:
    row = st.binary(min_size=decoder.size, max_size=decoder.size).map(decoder.decode)
    return st.lists(row, min_size=total, max_size=total)


@cache
def _different(place: int) -> bytes:
    """Bytes for one sample, the same in every run."""
    return np.random.default_rng(place).bytes(256)


def _heavy(draw: st.DrawFn) -> int:
    """How much more often than the others the first class occurs."""
    return draw(st.sampled_from([1, 1, 1, 5]))


def _classes_present(draw: st.DrawFn, num_classes: int) -> int:
    """How many of the classes occur: often all, sometimes one, some or none."""
    return draw(st.sampled_from([*[num_classes] * 4, max(1, num_classes - 1), 1, 0]))


@st.composite
def features(
    draw: st.DrawFn,
    num_samples: int,
    num_features: int,
    *,
    styles: Sequence[str] = FEATURE_STYLES,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draws ``(N, D)`` rows.

    Args:
        draw: Given by Hypothesis.
        num_samples: N.
        num_features: D.
        styles: Some of `FEATURE_STYLES`: a grid of small integers, decimals, duplicates, zero rows,
            collinear rows, rows of rank 2, clusters with noise, norms that differ a millionfold.
        dtype: The dtype to round to.

    Returns:
        The rows.

    Example:
        >>> from hypothesis import given
        >>> @given(features(3, 2, styles=["duplicates"]))
        ... def test(rows):
        ...     assert rows.shape == (3, 2)
        >>> test()
    """
    decoder = feature_decoder(draw, draw(st.sampled_from(list(styles))), num_features)
    rows = draw(_rows(decoder, num_samples))
    wide = torch.tensor(rows, dtype=torch.float64, device="cpu")
    return wide.reshape(num_samples, num_features).to(dtype)


@st.composite
def probabilities(
    draw: st.DrawFn,
    num_samples: int,
    num_classes: int,
    *,
    heads: tuple[int, ...] = (),
    styles: Sequence[str] = PROB_STYLES,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draws ``(*heads, N, K)`` probabilities whose rows sum to 1, up to rounding.

    Args:
        draw: Given by Hypothesis.
        num_samples: N.
        num_classes: K.
        heads: Leading dimensions.
        styles: Some of `PROB_STYLES`: shares of small integers, shares with many ties, one-hot and
            uniform rows, softmaxes that reach 0 and 1, values a last place of a float32 apart, and
            classes that run short beside one that does not.
        dtype: The dtype to round to.

    Returns:
        The probabilities.

    Example:
        >>> from hypothesis import given
        >>> @given(probabilities(3, 2))
        ... def test(probs):
        ...     assert ((probs.sum(-1) - 1).abs() < 1e-6).all()
        >>> test()
    """
    decoder = prob_decoder(draw(st.sampled_from(list(styles))), num_classes)
    rows = draw(_rows(decoder, num_samples * prod(heads)))
    shape = (*heads, num_samples, num_classes)
    probs = torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(shape).to(dtype)
    return probs.clamp(0, 1)  # of a single class, a last place above 1 would be none


@st.composite
def labels(
    draw: st.DrawFn,
    num_samples: int,
    num_classes: int,
    *,
    heads: tuple[int, ...] = (),
    unlabelled: bool = True,
) -> Tensor:
    """Draws int64 labels ``(*heads, N)``: all classes, a common one, some missing or all, and -1.

    Args:
        draw: Given by Hypothesis.
        num_samples: N.
        num_classes: K.
        heads: Leading dimensions.
        unlabelled: Whether -1 may occur.

    Returns:
        The labels.

    Example:
        >>> from hypothesis import given
        >>> @given(labels(4, 3))
        ... def test(y):
        ...     assert ((y >= -1) & (y < 3)).all()
        >>> test()
    """
    present = _classes_present(draw, num_classes)
    present = present if unlabelled else max(1, present)
    decoder = label_decoder(present, unlabelled=unlabelled, heavy=_heavy(draw))
    shape = (*heads, num_samples)
    drawn = draw(_rows(decoder, prod(shape)))
    return torch.tensor(drawn, device="cpu").long().reshape(shape)


def priors(num_classes: int) -> st.SearchStrategy[list[float]]:
    """Class priors: K positive decimals that need not sum to 1.

    Args:
        num_classes: K.

    Returns:
        A strategy.

    Example:
        >>> from hypothesis import given
        >>> @given(priors(3))
        ... def test(prior):
        ...     assert len(prior) == 3 and min(prior) > 0
        >>> test()
    """
    size = st.integers(1, 99).map(lambda n: n / 100)
    return st.lists(size, min_size=num_classes, max_size=num_classes)


@st.composite
def quotas(draw: st.DrawFn, num_samples: int, num_classes: int) -> list[int]:
    """Draws K positive counts that sum to at most N, equal ones and lopsided ones.

    Args:
        draw: Given by Hypothesis.
        num_samples: N, at least K.
        num_classes: K.

    Returns:
        The counts.

    Example:
        >>> from hypothesis import given
        >>> @given(quotas(7, 3))
        ... def test(counts):
        ...     assert len(counts) == 3 and sum(counts) <= 7
        >>> test()
    """
    left, counts = num_samples, []
    for others in reversed(range(num_classes)):
        counts.append(draw(st.integers(1, left - others)))
        left -= counts[-1]
    return counts


@st.composite
def cases(
    draw: st.DrawFn,
    kind: str,
    sizes: dict[int, int],
    *,
    num_features: tuple[int, int] = (2, 4),
    extra: int = 10,
    largest: int | None = None,
    heads: tuple[int, ...] = (),
    feature_styles: Sequence[str] = FEATURE_STYLES,
    prob_styles: Sequence[str] = PROB_STYLES,
    mixed: bool = False,
) -> Case:
    """Draws cases for rules of a kind, sample by sample.

    Args:
        draw: Given by Hypothesis.
        kind: ``"labels"``, ``"mask"`` or ``"selection"``.
        sizes: For every K to draw, the smallest N.
        num_features: The bounds of D.
        extra: How many samples more than the smallest N there may be; unless it is 0, at least
            two a class.
        largest: The largest N; None leaves it at ``extra`` more than the smallest.
        heads: Leading dimensions of probabilities and labels.
        feature_styles: Some of `FEATURE_STYLES`.
        prob_styles: Some of `PROB_STYLES`.
        mixed: Whether to start from samples that differ instead of equal ones: few ties then.

    Returns:
        A Case.

    Example:
        >>> from hypothesis import given
        >>> @given(cases("labels", {2: 3}))
        ... def test(case):
        ...     assert case.num_samples >= 3 and case.num_classes == 2
        >>> test()
    """
    num_classes = draw(st.sampled_from(sorted(sizes)))
    least = sizes[num_classes]
    most = least + (max(extra, 2 * num_classes) if extra else 0)
    most = most if largest is None else max(least, min(most, largest))
    width, parts = prod(heads), {}
    if kind != "selection":
        dim = draw(st.integers(*num_features))
        style = draw(st.sampled_from(list(feature_styles)))
        parts["features"] = [feature_decoder(draw, style, dim)]
    if kind != "mask":
        style = draw(st.sampled_from(list(prob_styles)))
        parts["probs"] = [prob_decoder(style, num_classes)] * width
    else:
        present = _classes_present(draw, num_classes)
        pool = parts["features"][0].pool if draw(st.booleans()) else 0
        parts["labels"] = [
            label_decoder(present, unlabelled=True, pool=pool, heavy=_heavy(draw))
        ] * width
    size = sum(decoder.size for decoders in parts.values() for decoder in decoders)
    sample = st.binary(min_size=size, max_size=size)
    bounds = [(least, most), ((least + most) // 2, most)] * 2
    if kind != "mask" and least <= num_classes <= most:  # probs (K, K), which some transpose
        bounds.append((num_classes, num_classes))
    fewest, most = draw(st.sampled_from(bounds))
    samples = draw(st.lists(sample, min_size=fewest, max_size=most))
    tables: dict[str, list[list[list[float]]]] = {name: [] for name in parts}
    for place, drawn in enumerate(samples):
        if mixed:
            drawn = bytes((a + b) % 256 for a, b in zip(drawn, _different(place), strict=False))
        first = drawn[:1]
        for name, decoders in parts.items():
            rows = []
            for decoder in decoders:
                follows = name == "labels" and decoder.size == 2
                head = first + drawn[:1] if follows else drawn[: decoder.size]
                rows.append(decoder.decode(head))
                drawn = drawn[1 if follows else decoder.size :]
            tables[name].append(rows)
    found = {name: torch.tensor(x, device="cpu").transpose(0, 1) for name, x in tables.items()}
    shape = (*heads, len(samples))
    return Case(
        num_classes,
        features=found["features"][0] if "features" in found else None,
        probs=found["probs"].reshape(*shape, num_classes) if "probs" in found else None,
        labels=found["labels"].long().reshape(shape) if "labels" in found else None,
    )
