"""Laws for labelling rules: put your own rule under them with `check_labeling_rule`."""

try:
    import hypothesis as _hypothesis  # noqa: F401 - a clear error before anything else fails
except ImportError as error:
    raise ImportError(
        "pseudolabel.testing needs hypothesis; install it with: pip install hypothesis"
    ) from error

from pseudolabel.testing.answers import Answer
from pseudolabel.testing.book import LAWS, Law
from pseudolabel.testing.cases import Case
from pseudolabel.testing.check import (
    Finding,
    LawReport,
    check_labeling_rule,
    examine_labeling_rule,
)
from pseudolabel.testing.rules import LabelingRule
from pseudolabel.testing.strategies import (
    cases,
    features,
    labels,
    priors,
    probabilities,
    quotas,
)
from pseudolabel.testing.violation import LawViolation

__all__ = [
    "LAWS",
    "Answer",
    "Case",
    "Finding",
    "LabelingRule",
    "Law",
    "LawReport",
    "LawViolation",
    "cases",
    "check_labeling_rule",
    "examine_labeling_rule",
    "features",
    "labels",
    "priors",
    "probabilities",
    "quotas",
]
