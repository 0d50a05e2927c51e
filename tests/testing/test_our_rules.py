"""The package's own operators under every law they promise, and the page's table of them."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from strategies import gaussian
from testing.our_rules import OURS, examine, row

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"
# A rule has a dozen laws: few cases each where tests have to be quick, all of them in `make laws`.
EXAMPLES = settings().max_examples if settings().max_examples > 1000 else 12
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]


@pytest.mark.laws
@pytest.mark.parametrize("ours", OURS, ids=lambda ours: ours.name)
def test_every_promise_is_kept_and_the_page_says_so(ours):
    examples = max(60, EXAMPLES) if ours.breaks else EXAMPLES
    report = examine(ours, examples)
    broken = {f.law: f.violation for f in report.findings if f.violation is not None}
    assert broken.keys() == ours.breaks.keys(), "\n".join(map(str, broken.values()))
    assert row(ours, report) in ROWS


@pytest.mark.parametrize("ours", OURS, ids=lambda ours: ours.name)
def test_the_default_device_is_not_asked(ours):
    """Nothing is made on it by mistake, with any option of an operator."""
    probs = gaussian(1, 2, 30, 2, dtype=torch.float32).mul(3).softmax(-1)
    features, one = gaussian(0, 30, 6, dtype=torch.float32), probs[0]
    labels = one.argmax(-1)
    inputs = {"labels": (features, probs), "mask": (features, labels), "selection": (one,)}
    expected = ours.rule(*inputs[ours.kind])
    with torch.device("meta"):
        found = ours.rule(*inputs[ours.kind])
    for x, y in zip(*map(tensors, (found, expected)), strict=True):
        assert x.device.type == "cpu"
        assert torch.equal(x, y)


def tensors(result):
    """Those of a rule's answer, which is one or a tuple of them and of settings."""
    return [x for x in (result if isinstance(result, tuple) else [result]) if torch.is_tensor(x)]


def test_the_page_has_no_other_rows():
    assert len([line for line in ROWS if line.count("|") == 5]) == len(OURS)
