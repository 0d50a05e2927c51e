"""The tests of the package in processes forked for them: which lines they reach, which errors fail.

Whatever is slow to import is imported before the fork, the package itself after it, from a copy
of the repository in which one file may have been changed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import coverage
import pytest
from hypothesis import Phase, settings

PACKAGE = "pseudolabel"
SLOW_TO_IMPORT = (
    "torch torch.distributed torch._dynamo numpy scipy.optimize sklearn.metrics sklearn.neighbors "
    "sklearn.utils.estimator_checks hypothesis.extra.numpy PIL.Image jinja2 safetensors tyro"
)
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "runs", "site", ".hypothesis", ".*_cache", "__pycache__"
)
# Examples a property test draws while the lines are mapped, and while mutants are judged (CI's).
QUICK, FULL = 6, 60
# A process of the tests may hold as much; a mutant that asks for more is stopped.
MEMORY = 16 * 2**30


def load() -> None:
    """Imports what forked processes share."""
    for name in SLOW_TO_IMPORT.split():
        importlib.import_module(name)


def copy_repository(root: Path, copy: Path) -> None:
    """Brings a copy up to date; times of files are kept, and with them compiled files."""
    for stale in ("pseudolabel", "tests"):
        for path in (copy / stale).rglob("*.py"):
            if not (root / path.relative_to(copy)).exists():
                path.unlink()
    shutil.copytree(root, copy, ignore=IGNORED, dirs_exist_ok=True)


def test_files(root: Path) -> list[str]:
    """The package, for its doctests, and the files of all tests but those of the examples."""
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("tests/**/test_*.py"))
    return [PACKAGE, *(n for n in names if not n.startswith(("tests/examples/", "tests/meta/")))]


class LineMap:
    """Which tests reach which lines, and how long each takes; kept as one JSON file a test file."""

    def __init__(self, copy: Path, folder: Path) -> None:
        self.copy, self.folder = copy, folder
        self.seconds: dict[str, float] = {}
        self.tests: dict[str, dict[int, set[str]]] = {}

    def measure(self, file: str) -> None:
        """Adds the tests of a file, run now unless neither they nor what they reach has changed."""
        stored = self.folder / f"{file.replace('/', '+')}.json"
        if not stored.exists() or not self._holds(json.loads(stored.read_text()), file):
            self.folder.mkdir(parents=True, exist_ok=True)
            in_fork(lambda: _measure(self.copy, file, stored), self.folder / "log", 3600)
            for aside in set(self.folder.glob(f"{stored.stem}.*")) - {stored}:
                aside.unlink()
        record = json.loads(stored.read_text())
        if record["failed"]:
            raise RuntimeError(f"tests fail on the package as it is: {record['failed']}")
        self.seconds |= record["seconds"]
        for source, lines in record["lines"].items():
            known = self.tests.setdefault(source, {})
            for line, tests in lines.items():
                known.setdefault(int(line), set()).update(tests)

    def _holds(self, record: dict[str, Any], file: str) -> bool:
        tests, sources = _digests(self.copy, [file]), _digests(self.copy, record["sources"])
        return (tests, sources) == (record["tests"], record["sources"])

    def reaching(self, file: str, first: int, last: int) -> list[str]:
        """The tests that reach a range of lines, the quickest first."""
        lines = self.tests.get(file, {})
        found = set().union(*(lines.get(line, set()) for line in range(first, last + 1)))
        return sorted(found, key=lambda test: (self.seconds[test], test))


def _measure(copy: Path, file: str, stored: Path) -> int:
    data, config = stored.with_suffix(""), stored.parent / "coverage.ini"
    config.write_text(
        f"[run]\nbranch = True\nsource = {copy / PACKAGE}\npatch = subprocess, fork, _exit\n"
        f"data_file = {data}\n"
    )
    measured = coverage.Coverage(config_file=str(config))
    timer = _Contexts(measured)
    measured.start()
    run_pytest(copy, [file], QUICK, timer, "--continue-on-collection-errors")
    measured.stop()
    measured.save()
    measured.combine(keep=False)
    lines = {
        Path(path).relative_to(copy).as_posix(): {
            line: sorted(filter(None, tests))
            for line, tests in measured.get_data().contexts_by_lineno(path).items()
        }
        for path in measured.get_data().measured_files()
    }
    record = {
        "tests": _digests(copy, [file]),
        "sources": _digests(copy, [source for source in lines if any(lines[source].values())]),
        "failed": timer.failed,
        "seconds": timer.seconds,
        "lines": lines,
    }
    stored.write_text(json.dumps(record))
    return 0


def _digests(copy: Path, files: Iterable[str]) -> dict[str, str]:
    """Of what tests say and of where the package's statements stand, comments apart."""
    found = {}
    for file in files:
        if file.endswith(".py") and (copy / file).exists():
            tree = ast.parse((copy / file).read_text())
            says: object = ast.dump(tree)
            if file.startswith(PACKAGE):
                nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
                says = sorted((node.lineno, type(node).__name__) for node in nodes)
            found[file] = hashlib.sha256(str(says).encode()).hexdigest()
    return found


class _Contexts:
    """A plugin that names the running test to coverage, in processes it starts too."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.measured.config.context = item.nodeid
        os.environ["COVERAGE_PROCESS_CONFIG"] = self.measured.config.serialize()
        self.measured.switch_context(item.nodeid)
        start = time.process_time() + sum(os.times()[2:4])
        result = yield
        self.measured.switch_context("")
        self.seconds[item.nodeid] = time.process_time() + sum(os.times()[2:4]) - start
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


class FirstFailure:
    """A plugin that writes the first test that fails into a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.path.exists():
            self.path.write_text(report.nodeid)


def run_pytest(copy: Path, tests: list[str], examples: int, plugin: object, *options: str) -> int:
    """Runs tests of a copy of the repository in this process, which is good for nothing else."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    os.environ["HYPOTHESIS_PROFILE"] = "forked"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    # Some scripts beside this one are named like packages of the tests: nobody is to find them,
    # and workers that are spawned do not run the one that was started again.
    sys.path[:] = [str(copy), *(path for path in sys.path if path != str(Path(__file__).parent))]
    vars(sys.modules["__main__"]).pop("__file__", None)
    # The first failure is enough: there is no need to find the smallest one.
    settings.register_profile(
        "forked",
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", "--rootdir", str(copy), *options)
    return int(pytest.main([*options, *tests], plugins=[plugin]))


def in_fork(work: Callable[[], int], log: Path, seconds: float) -> int | None:
    """Runs work in a process of its own; its exit status (minus its signal), None without an end.

    ``seconds`` are of processor time; eight times as many may pass on the clock.
    """
    child = os.fork()
    if child == 0:
        status = 70
        with suppress(BaseException):
            os.setsid()
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            status = work()
            sys.stdout.flush()
        os._exit(status)
    deadline, status = time.monotonic() + 8 * seconds + 60, None
    while status is None and time.monotonic() < deadline:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
        else:
            time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started, too
    if status is None:
        os.waitpid(child, 0)
    return None if status == -signal.SIGXCPU else status
