"""Running chosen tests against a changed copy of the package, in a process forked for it.

The processes come from a fork server that has imported what is slow to import, so that a mutant
costs about as long as its tests.
"""

import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings

import pseudolabel

PACKAGE = Path(pseudolabel.__file__).parent
TESTS = Path(__file__).parent
SLOW_TO_IMPORT = ["torch", "pytest", "hypothesis.extra.numpy", "sklearn.metrics", "scipy.optimize"]

# A mutant that never ends is stopped and reported, not counted as killed.
SECONDS = 120


@dataclass(frozen=True)
class Mutant:
    """A planted error: replacements in one file, and the tests that must notice."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def mutant(name, file, old, new, *tests, then=()):
    """A mutant of one replacement, or of a few that only make sense together."""
    return Mutant(name, file, ((old, new), *then), tests)


def plant(planted, folder):
    """Copies the package into a folder and changes it; a pattern that is gone is an error."""
    copy = shutil.copytree(
        PACKAGE, folder / "pseudolabel", ignore=shutil.ignore_patterns("__pycache__")
    )
    path = copy / planted.file
    source = path.read_text()
    for old, new in planted.changes:
        found = source.count(old)
        if found != 1:
            pytest.fail(f"{planted.name}: {found} matches of {old!r} in {planted.file}; update it")
        source = source.replace(old, new)
    path.write_text(source)
    return folder


def run_tests(folder, tests, report):
    """Runs tests against the package in a folder; returns pytest's exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_TO_IMPORT)
    process = context.Process(target=_child, args=(str(folder), tests, str(report)))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        pytest.fail(f"no end after {SECONDS} s; see {report}")
    return pytest.ExitCode(process.exitcode)


def _child(folder, tests, report):
    with Path(report).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pseudolabel"]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    assert __import__("pseudolabel").__file__.startswith(folder)
    # The first failure is enough: there is no need to find the smallest one.
    settings.register_profile(
        "mutants",
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=line", "-o", "addopts="]
    options += ["--import-mode=importlib", "--rootdir", str(TESTS.parent)]
    sys.exit(pytest.main([*options, *(str(TESTS / test) for test in tests)]))
