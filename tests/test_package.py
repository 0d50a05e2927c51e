"""The package as a whole: what importing costs, what is public, who imports whom."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pseudolabel as pl

PACKAGE = Path(pl.__file__).parent
ROOT = Path(__file__).parent.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted([*ROOT.glob("examples/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])


def dotted(path):
    """The parts of a module's name, its file's own name included."""
    return ("pseudolabel", *path.relative_to(PACKAGE).with_suffix("").parts)


# --- importing -----------------------------------------------------------------------------------

HEAVY = ("scipy", "sklearn", "faiss", "matplotlib", "hypothesis", "torch._dynamo")


def test_importing_loads_nothing_heavy_and_warns_of_nothing():
    code = f"import sys, pseudolabel; print([m for m in {HEAVY} if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_first_search_of_a_process_warns_of_nothing_and_asks_no_default_device():
    code = """
import torch
import pseudolabel as pl
features = torch.eye(4)
with torch.device("meta"):
    print(pl.nearest_neighbors(features, 1).indices.tolist())
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[[1], [0], [0], [0]]", "")


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


# --- the public names ----------------------------------------------------------------------------

PUBLIC = [
    "ClusterHeads",
    "FixedThreshold",
    "InvertedLists",
    "NeighborBackend",
    "Neighbors",
    "PseudoLabels",
    "RecallReport",
    "ReliabilityReport",
    "ReliableLabels",
    "Selection",
    "SelfAdaptiveThreshold",
    "adjusted_rand_index",
    "assign_labels",
    "balanced_clustering_accuracy",
    "check_values",
    "class_prototypes",
    "clustering_accuracy",
    "consistency_loss",
    "double_softmax_cross_entropy",
    "entropy_regularizer",
    "label_confidence",
    "nearest_neighbors",
    "nearest_prototype",
    "normalized_mutual_info",
    "prototype_labels",
    "reliability_ratio",
    "reliable_labels",
    "reliable_mask",
    "select_confident",
    "select_head",
    "soft_contrastive_loss",
]


def test_public_names_are_the_promised_ones_sorted():
    assert list(pl.__all__) == sorted(pl.__all__) == PUBLIC


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: ".".join(dotted(path)[:-1])
)
def test_a_package_lists_what_it_hands_on(path):
    handed_on = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            handed_on.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "pseudolabel":
            handed_on.update(alias.name for alias in node.names)
    package = importlib.import_module(".".join(dotted(path)[:-1]))
    assert set(package.__all__) == {name for name in handed_on if not name.startswith("_")}
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_resolves_and_is_documented(name):
    documented = getattr(pl, name)
    assert len(inspect.getdoc(documented).split()) > 5
    assert documented.__name__ == name


# Names, order, kinds and defaults are promised; an operator may gain keyword-only options.
SIGNATURES = """
def select_confident(probs, count): ...
def class_prototypes(features, indices): ...
def assign_labels(features, prototypes, count, *, assignment="overlap", metric="cosine"): ...
def prototype_labels(features, probs, *, prototype_ratio=0.5, label_ratio=1.0, prior=None,
                     assignment="overlap", metric="cosine"): ...
def nearest_prototype(features, prototypes, *, metric="cosine"): ...
def label_confidence(pseudo_labels, *, kind="one_minus"): ...
def nearest_neighbors(features, k, *, queries=None, metric="cosine", include_self=False,
                      backend="auto"): ...
def reliability_ratio(labels, neighbors): ...
def reliable_mask(features, labels, *, k=100, threshold=0.95, strict=True, include_self=False,
                  metric="cosine", backend="auto", neighbors=None): ...
def reliable_labels(features, labels, *, k=100, threshold=0.95, strict=True, include_self=False,
                    metric="cosine", backend="auto", neighbors=None, probs=None,
                    min_confidence=None, balance=False, generator=None): ...
def double_softmax_cross_entropy(logits, labels, *, reduction="mean", ignore_index=-1): ...
def soft_contrastive_loss(predictions, labels, confidence=None, *, temperature=0.5,
                          confidence_mode="scale", negatives=True, include_positive=False,
                          sample_ids=None, reduction="mean", ignore_index=-1): ...
def consistency_loss(logits, targets, weights=None, *, reduction="mean", ignore_index=-1): ...
def entropy_regularizer(probs): ...
def FixedThreshold(threshold=0.95, *, strict=False): ...
def SelfAdaptiveThreshold(num_classes, *, momentum=0.999, strict=False, process_group=None): ...
def ClusterHeads(num_heads, in_features, num_classes, *, hidden_features=None, norm=None): ...
def InvertedLists(recall=0.98, *, lists=None, seed=0): ...
def select_head(losses): ...
def clustering_accuracy(predicted, target): ...
def balanced_clustering_accuracy(predicted, target): ...
def normalized_mutual_info(predicted, target): ...
def adjusted_rand_index(predicted, target): ...
"""
PROMISED = {function.name: function for function in ast.parse(SIGNATURES).body}


@pytest.mark.parametrize("name", PROMISED)
def test_signature_is_the_promised_one(name):
    promised = PROMISED[name].args
    actual = inspect.signature(getattr(pl, name)).parameters
    positional = [p for p in actual.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == [argument.arg for argument in promised.args]
    defaults = [ast.literal_eval(default) for default in promised.defaults]
    assert [p.default for p in positional if p.default is not p.empty] == defaults
    for argument, default in zip(promised.kwonlyargs, promised.kw_defaults, strict=True):
        assert actual[argument.arg].kind is inspect.Parameter.KEYWORD_ONLY
        assert actual[argument.arg].default == ast.literal_eval(default)
    assert all(p.default is not p.empty for p in actual.values() if p not in positional)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("PseudoLabels", "indices labels similarity prototypes metric"),
        ("Neighbors", "indices similarity"),
        ("ReliableLabels", "labels mask ratio given threshold strict num_classes"),
        ("Selection", "targets weights"),
    ],
)
def test_fields_are_the_promised_ones(name, fields):
    assert " ".join(getattr(pl, name)._fields) == fields


# --- who imports whom ----------------------------------------------------------------------------

OPERATORS = {"prototypes", "neighbors", "losses", "thresholds", "heads", "metrics"}
ABOVE = {"reliability": {"neighbors"}, "distributed": OPERATORS | {"reliability"}}
ON_REQUEST = {"testing", "estimator", "report", "cli", "__main__"}
SUBPACKAGES = ON_REQUEST | {"distributed"}  # whose names are public beside those of the package


def imported(source, module=()):
    """The dotted names a source imports, relative ones resolved: "pseudolabel.losses.x"."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*module[: len(module) - node.level]] if node.level else []
            base += [node.module] if node.module else []
            names.update(".".join([*base, alias.name]) for alias in node.names)
    return names


def is_leaf(part):
    return part == "types" or (part.startswith("_") and part not in ON_REQUEST)


def allowed(part):
    """The parts of the package that a part may import, itself left out."""
    if is_leaf(part):
        return set()
    if part in ON_REQUEST:
        return OPERATORS | set(ABOVE) | ON_REQUEST
    return ABOVE.get(part, set())


def trespasses(source, module):
    """The imports of one module of the package that its place does not allow."""
    part = module[1]
    parts = {
        name.split(".")[1]
        for name in imported(source, module)
        if name.split(".")[0] == "pseudolabel" and "." in name
    }
    return {p for p in parts if p != part and not is_leaf(p) and p not in allowed(part)}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent != PACKAGE or path.stem != "__init__"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_point_one_way(path):
    part = dotted(path)[1]
    assert is_leaf(part) or part in OPERATORS | set(ABOVE) | ON_REQUEST, f"no place for {part}"
    assert trespasses(path.read_text(), dotted(path)) == set()


def test_init_only_hands_names_on():
    source = (PACKAGE / "__init__.py").read_text()
    for node in ast.parse(source).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert docstring or isinstance(node, (ast.ImportFrom, ast.Assign, ast.AnnAssign))
    assert not {name.split(".")[1] for name in imported(source)} & ON_REQUEST


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (("pseudolabel", "losses"), "from pseudolabel.heads import ClusterHeads"),
        (("pseudolabel", "losses"), "from .heads import ClusterHeads"),
        (("pseudolabel", "losses", "soft"), "from ..heads import ClusterHeads"),
        (("pseudolabel", "neighbors"), "import pseudolabel.reliability"),
        (("pseudolabel", "_checks"), "from . import losses"),
        (("pseudolabel", "types"), "from pseudolabel import losses"),
        (("pseudolabel", "reliability"), "def f():\n    from .metrics import anything"),
        (("pseudolabel", "thresholds"), "from pseudolabel import FixedThreshold"),
    ],
)
def test_a_wrong_import_would_be_seen(module, source):
    assert trespasses(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (("pseudolabel", "reliability"), "from .neighbors import nearest_neighbors"),
        (("pseudolabel", "losses", "soft"), "from ._shared import x\nfrom .._checks import y"),
        (("pseudolabel", "estimator"), "from pseudolabel.prototypes import prototype_labels"),
        (("pseudolabel", "heads"), "import torch\nfrom torch import nn"),
    ],
)
def test_a_right_import_passes(module, source):
    assert trespasses(source, module) == set()


def private_uses(source):
    """What a script takes from the package beyond its public names."""
    public = {f"pseudolabel.{name}" for name in [*PUBLIC, *SUBPACKAGES, "__version__"]}
    used = {name for name in imported(source) if name.split(".")[0] == "pseudolabel"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("pseudolabel", "pl"):
            used.add(f"pseudolabel.{node.attr}")
    requested = tuple(f"pseudolabel.{part}." for part in SUBPACKAGES)
    return {name for name in used - public - {"pseudolabel"} if not name.startswith(requested)}


def test_examples_and_benchmarks_use_public_names_only():
    uses = {str(path.relative_to(ROOT)): private_uses(path.read_text()) for path in SCRIPTS}
    assert not {path: names for path, names in uses.items() if names}


@pytest.mark.parametrize(
    "source",
    [
        "from pseudolabel._numerics import similarity",
        "from pseudolabel.losses import consistency_loss",
        "import pseudolabel.neighbors",
        "import pseudolabel as pl\npl._checks",
        "import pseudolabel\npseudolabel.losses.consistency_loss",
        "from pseudolabel import no_such_name",
    ],
)
def test_a_private_use_would_be_seen(source):
    assert private_uses(source)


def test_public_uses_pass():
    assert not private_uses(
        "import pseudolabel as pl\nfrom pseudolabel import reliable_mask\npl.FixedThreshold()\n"
        "from pseudolabel.estimator import PrototypeClustering"
    )


# --- size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300
