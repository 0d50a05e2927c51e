"""SPICE Eq. 6-7: counting neighbours in integers and fractions."""

from fractions import Fraction

from oracles.similarity import as_written


def reliability_ratio(labels, neighbors) -> list[Fraction]:
    """The share of a sample's neighbours that carry its label; 0 without a label."""
    return [
        Fraction(sum(labels[j] == label for j in row) if label >= 0 else 0, len(row))
        for label, row in zip(labels, neighbors, strict=True)
    ]


def is_reliable(label, ratio, threshold, strict=True) -> bool:
    """Eq. 7 for one sample."""
    threshold = as_written(threshold)
    return label >= 0 and (ratio > threshold if strict else ratio >= threshold)


def reliable_before_balance(
    labels, neighbors, *, threshold, strict=True, probs=None, min_confidence=None
) -> list[bool]:
    """Eq. 7, and the largest probability strictly above `min_confidence` if one is given."""
    ratios = reliability_ratio(labels, neighbors)
    mask = [is_reliable(y, r, threshold, strict) for y, r in zip(labels, ratios, strict=True)]
    if min_confidence is None:
        return mask
    return [
        keep and as_written(max(row)) > as_written(min_confidence)
        for keep, row in zip(mask, probs, strict=True)
    ]


def class_counts(labels, mask, num_classes) -> list[int]:
    """How many samples of every class survive."""
    return [
        sum(keep and y == c for y, keep in zip(labels, mask, strict=True))
        for c in range(num_classes)
    ]


def balanced_size(labels, mask, num_classes) -> int:
    """What every class is cut to: the smallest survivor count, an empty class included."""
    return min(class_counts(labels, mask, num_classes), default=0)
