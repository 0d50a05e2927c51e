"""The plug-ins run, and differ from the loops of the other side by at most ten lines."""

import difflib
import importlib
import sys
from pathlib import Path

import pytest
import torch

from pseudolabel import FixedThreshold

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "plug_in"
PAGE = ROOT / "docs" / "plug-in.md"
NAMES = ("scan", "fixmatch", "embeddings")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for module in [m for m in sys.modules.values() if m and is_of_the_folder(m)]:
        del sys.modules[module.__name__]


def is_of_the_folder(module):
    return Path(getattr(module, "__file__", None) or "/").parent == FOLDER


@pytest.fixture
def embeddings(tmp_path):
    given = importlib.import_module("given")
    images, truth = (tensor.numpy() for tensor in given.digits())
    given.write_embeddings(tmp_path / "features.npz", images[:400], truth[:400])
    return tmp_path / "features.npz"


def lines(name, side):
    return (FOLDER / f"{name}_{side}.py").read_text().splitlines()


def changed_lines(before, after):
    """Of every run of changes the lines taken out or put in, whichever are more."""
    opcodes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in opcodes if tag != "equal")


def test_changed_lines_worked_by_hand():
    assert changed_lines(list("abcdef"), list("abcdef")) == 0
    assert changed_lines(list("abcdef"), list("aXYdef")) == 2
    assert changed_lines(list("abcdef"), list("bcXdeYZf")) == 1 + 1 + 2


@pytest.mark.parametrize("name", NAMES)
def test_at_most_ten_lines_change(name):
    assert 0 < changed_lines(lines(name, "before"), lines(name, "after")) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_change(name):
    sides = [f"{name}_before.py", f"{name}_after.py"]
    diff = difflib.unified_diff(
        lines(name, "before"), lines(name, "after"), *sides, lineterm="", n=0
    )
    assert "```diff\n" + "\n".join(diff) + "\n```" in PAGE.read_text()


@pytest.mark.parametrize("side", ["before", "after"])
def test_self_labelling_runs(side):
    loop = importlib.import_module(f"scan_{side}")
    scores = loop.main(seed=0, epochs=1)
    assert scores["start"] > 0.6
    assert scores["end"] > 0.6
    assert scores == loop.main(seed=0, epochs=1)


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_algorithm_runs(side):
    loop = importlib.import_module(f"fixmatch_{side}")
    scores = loop.main(seed=0, steps=30, labelled=4)
    assert scores["accuracy"] > 0.5
    assert 0 < scores["kept"] <= 1


def test_the_fixed_threshold_is_the_hook_of_the_other_side(monkeypatch):
    before = importlib.import_module("fixmatch_before").main(seed=0, steps=40)
    after = importlib.import_module("fixmatch_after")
    monkeypatch.setattr(
        after, "SelfAdaptiveThreshold", lambda num_classes, momentum: FixedThreshold(0.95)
    )
    assert after.main(seed=0, steps=40) == before
    assert before["kept"] > 0


def test_the_loss_of_the_other_side_worked_by_hand():
    loss = importlib.import_module("scan_parts").ConfidenceCrossEntropy(threshold=0.99)
    weak_logits = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 0.0]])
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0], [5.0, 0.0]])
    each = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 0, 1, 0]), reduction="none")
    expected = ((each[0] + each[1]) / 2 + each[2]) / 2
    torch.testing.assert_close(loss(weak_logits, logits), expected)
    assert loss(torch.zeros(4, 2), logits) == 0


@pytest.mark.parametrize("side", ["before", "after"])
def test_embeddings_are_clustered(side, embeddings):
    scores = importlib.import_module(f"embeddings_{side}").main(embeddings)
    assert all(0.5 < score < 1 for score in scores.values())
