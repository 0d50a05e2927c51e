"""How alike two rows are, in Python floats, and how a decimal is read."""

import math
from fractions import Fraction


def as_written(number) -> Fraction:
    """The decimal a person wrote: 0.29 is 29/100, a float32 0.95 is 19/20."""
    return Fraction(float(number)).limit_denominator(10**6)


def _scaled(row) -> list[float]:
    """The row times a power of two that brings its largest entry to [0.5, 1): nothing overflows."""
    row = [float(x) for x in row]
    largest = max(abs(x) for x in row)
    exponent = math.frexp(largest)[1] if largest else 0
    return [math.ldexp(x, -exponent) for x in row]


def cosine(a, b) -> float:
    """a.b / (|a| |b|), and 0 where either row is zero."""
    a, b = _scaled(a), _scaled(b)
    norms = math.fsum(x * x for x in a) * math.fsum(y * y for y in b)
    if norms == 0:
        return 0.0
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(norms)


def negative_distance(a, b) -> float:
    """-|a - b|."""
    return -math.dist([float(x) for x in a], [float(y) for y in b])


def similarity(metric, a, b) -> float:
    """Similarity of two rows under a metric: the cosine, or minus the distance."""
    return {"cosine": cosine, "euclidean": negative_distance}[metric](a, b)
