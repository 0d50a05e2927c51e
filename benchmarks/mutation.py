"""Errors planted all over the package, by mutmut's operators: how many does the suite notice?

    python benchmarks/mutation.py                # a sample of all modules; goes on where it stopped
    python benchmarks/mutation.py --survivors    # those nobody noticed once more, after new tests

The sample is proportional to the mutants of each file and drawn by the seed. A mutant meets the
tests that reach its statement, the quickest first, until one fails. One that never ends counts as
killed; one that changes nothing anybody can see counts as a survivor, with an explanation from
``mutants_explained.json``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import _suite
from _harness import write_result
from _mutants import Mutant, all_mutants

ROOT = Path(__file__).parent.parent
EXPLAINED = Path(__file__).parent / "mutants_explained.json"
# What runs on import, such as lists of names, meets the tests of the package as a whole first.
OF_THE_PACKAGE = "tests/test_package.py"


def drawn(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """A sample with every file's share of ``size`` (at least one), in random order."""
    by_file: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_file.setdefault(mutant.file, []).append(mutant)
    sample = []
    for file, found in by_file.items():
        random.Random(f"{seed} {file}").shuffle(found)
        sample += found[: max(1, round(size * len(found) / len(mutants)))]
    random.Random(seed).shuffle(sample)
    return sample


class Judge:
    """Runs mutants, and remembers what became of them."""

    def __init__(self, work: Path, test_seconds: float) -> None:
        self.copy, self.log = work / "copy", work / "log"
        self.first_failure = work / "first_failure"
        self.record = work / "outcomes.jsonl"
        self.test_seconds = test_seconds
        self.lines = _suite.LineMap(self.copy, work / "lines")
        self.outcomes: dict[str, list[dict[str, Any]]] = {}
        self.noticed: dict[str, Counter[str]] = {}
        for line in self.record.read_text().splitlines() if self.record.exists() else []:
            self._remember(json.loads(line))

    def _remember(self, outcome: dict[str, Any]) -> None:
        self.outcomes.setdefault(outcome["key"], []).append(outcome)
        file = outcome["key"].partition("\n")[0]
        self.noticed.setdefault(file, Counter())[outcome["noticed_by"]] += 1

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that reach the statement; else its function; else its file.

        What runs on import is reached by whichever test comes first, and matters to all of them,
        to those also that import the file and read no more than a name of it: those of the package
        come first. A default value runs on import, too, and matters to the tests that reach its
        function, and to those of the package.
        """
        scope, file = (mutant.scope_first, mutant.scope_last), (1, 10**6)
        statement = (mutant.first, mutant.last)
        of_the_package = [test for test in self.lines.seconds if test.startswith(OF_THE_PACKAGE)]
        in_function = mutant.scope_first > 1
        in_body = in_function and mutant.first > mutant.scope_first
        if in_body and (found := self.lines.reaching(mutant.file, *statement)):
            return found
        if in_function and (found := self.lines.reaching(mutant.file, *scope)):
            return list(dict.fromkeys(found + of_the_package))
        found = self.lines.reaching(mutant.file, *file) + self._importing(mutant.file)
        found.sort(key=lambda test: (self.lines.seconds[test], test))
        return list(dict.fromkeys(of_the_package + found))

    def _importing(self, file: str) -> list[str]:
        """The tests in files that import a file of the package by its name."""
        statement = f"from {file.removesuffix('.py').replace('/', '.')} import "
        sources = {
            name: (self.copy / name).read_text() for name in _suite.test_files(self.copy)[1:]
        }
        return [
            test
            for test in self.lines.seconds
            if statement in sources.get(test.partition("::")[0], "")
        ]

    def judge(self, mutant: Mutant, source: str) -> dict[str, Any]:
        """Plants a mutant and runs its tests, those first that noticed others of the file."""
        reaching, noticed = self.tests(mutant), self.noticed.get(mutant.file, Counter())
        reaching.sort(key=lambda test: -noticed[test])
        tests, seconds = [], 0.0
        for test in reaching:
            seconds += self.lines.seconds[test]
            if tests and seconds > self.test_seconds:
                break
            tests.append(test)
        path, start = self.copy / mutant.file, time.monotonic()
        original, times = path.read_bytes(), path.stat()
        self.first_failure.unlink(missing_ok=True)
        path.write_text(source)
        try:
            status = _suite.in_fork(lambda: self._run(tests), self.log, 30 + 10 * seconds)
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        named = self.first_failure.exists()
        outcome = {
            "key": mutant.key,
            "outcome": "no end" if status is None else "survived" if status == 0 else "killed",
            "status": status,
            "noticed_by": self.first_failure.read_text() if named else None,
            "tests": len(tests),
            "tests_reaching": len(reaching),
            "seconds": round(time.monotonic() - start, 1),
        }
        with self.record.open("a") as file:
            file.write(json.dumps(outcome) + "\n")
        self._remember(outcome)
        return outcome

    def _run(self, tests: list[str]) -> int:
        # The copy keeps what was compiled from the files as they are.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        watch = _suite.FirstFailure(self.first_failure)
        return _suite.run_pytest(self.copy, tests, _suite.FULL, watch, "-x")

    def false_alarms(self) -> list[str]:
        """Tests that noticed an error and fail without one, too."""
        last = [outcomes[-1]["noticed_by"] for outcomes in self.outcomes.values()]
        tests = sorted({test for test in last if test in self.lines.seconds})
        failed = []
        while tests:
            self.first_failure.unlink(missing_ok=True)
            seconds = 60 + 20 * sum(self.lines.seconds[test] for test in tests)
            if _suite.in_fork(lambda: self._run(tests), self.log, seconds) == 0:
                break
            failed.append(self.first_failure.read_text())
            tests.remove(failed[-1])
        return failed


def summary(judge: Judge, mutants: list[Mutant], sample: list[Mutant]) -> dict[str, Any]:
    """Counts in all and per module, and the survivors one by one."""
    reasons = {
        (entry["file"], entry["before"], entry["after"]): entry["explanation"]
        for entry in json.loads(EXPLAINED.read_text())
    }
    alarms = judge.false_alarms()
    ran = [m for m in sample if m.key in judge.outcomes]
    ran = [m for m in ran if judge.outcomes[m.key][-1]["noticed_by"] not in alarms]
    last = {m: judge.outcomes[m.key][-1] for m in ran}
    first = Counter(judge.outcomes[m.key][0]["outcome"] for m in ran)
    survivors = [m for m in ran if last[m]["outcome"] == "survived"]
    modules = {}
    for file in sorted({m.file for m in mutants}):
        here = [m for m in ran if m.file == file]
        modules[file] = {
            "mutants": sum(m.file == file for m in mutants),
            "sampled": sum(m.file == file for m in sample),
            "ran": len(here),
            "killed": sum(m not in survivors for m in here),
        }
    return {
        "mutants": len(mutants),
        "sampled": len(sample),
        "ran": len(ran),
        "killed": len(ran) - len(survivors),
        "killed_share": round(1 - len(survivors) / max(1, len(ran)), 4),
        "of_these_without_end": sum(o["outcome"] == "no end" for o in last.values()),
        "killed_before_tests_were_added": len(ran) - first["survived"],
        "tests_that_fail_without_an_error": alarms,
        "modules": modules,
        "survivors": [
            m.public()
            | {name: last[m][name] for name in ("tests", "tests_reaching")}
            | {"explanation": reasons.get((m.file, m.before, m.after))}
            for m in sorted(survivors, key=lambda m: (m.file, m.line))
        ],
    }


def main() -> None:
    """Runs what has not run yet, for as long as allowed, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--survivors", action="store_true", help="run the survivors once more")
    parser.add_argument("--only", nargs="*", default=["pseudolabel/"], help="files that begin so")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after as long")
    parser.add_argument("--test-seconds", type=float, default=20, help="of tests for one mutant")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "mutants")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "mutation.json"
    )
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    _suite.load()
    judge = Judge(options.work.resolve(), options.test_seconds)
    _suite.copy_repository(ROOT, judge.copy)
    for file in _suite.test_files(judge.copy):
        judge.lines.measure(file)
    only = tuple(options.only)
    sources = {
        mutant: source
        for mutant, source in all_mutants(judge.copy, _suite.PACKAGE)
        if mutant.file.startswith(only)
    }
    sample = drawn(list(sources), options.sample, options.seed)
    for place, mutant in enumerate(sample):
        known = judge.outcomes.get(mutant.key)
        again = options.survivors and known and known[-1]["outcome"] == "survived"
        if time.monotonic() < end and (again or not known):
            outcome = judge.judge(mutant, sources[mutant])
            print(
                f"{place + 1}/{len(sample)} {outcome['outcome']} {mutant.file}:{mutant.line}",
                flush=True,
            )
    settings = {
        "command": "python benchmarks/mutation.py",
        "operators": f"mutmut {importlib.metadata.version('mutmut')}",
        "examples_per_property": _suite.FULL,
        **{name: getattr(options, name) for name in ("sample", "seed", "only", "test_seconds")},
    }
    write_result(options.out, settings, summary(judge, list(sources), sample))


if __name__ == "__main__":
    main()
