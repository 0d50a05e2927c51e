"""Lines and branches of the package that the tests reach, and those that need a CUDA device.

    make coverage    # runs the tests of the package, then this

A statement whose first line ends in ``# cuda`` runs on such a device only. The share is told with
these statements and without them, and every one of them is listed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import coverage
from _harness import write_result

ROOT = Path(__file__).parent.parent
CUDA = r"#.*\bcuda$"
# Read by type checkers, not by Python.
FOR_TYPES = r"if TYPE_CHECKING:"


def report(data: str, *apart: str) -> dict[str, Any]:
    """The report of coverage, leaving out the statements that match one of some patterns."""
    measured = coverage.Coverage(data_file=data, config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    measured.clear_exclude()
    for pattern in apart:
        measured.exclude(pattern)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        measured.json_report(outfile=str(file))
        return json.loads(file.read_text())


def share(counts: dict[str, Any]) -> dict[str, Any]:
    """Statements and branches, those reached, and the share of both together in percent."""
    covered = counts["covered_lines"] + counts["covered_branches"]
    possible = counts["num_statements"] + counts["num_branches"]
    return {
        "percent": round(100 * covered / possible, 2) if possible else 100.0,
        "branch_percent": round(100 * counts["covered_branches"] / counts["num_branches"], 2)
        if counts["num_branches"]
        else 100.0,
        **{
            name: counts[name]
            for name in ("num_statements", "covered_lines", "num_branches", "covered_branches")
        },
    }


def main() -> None:
    """Prints and writes the shares, and what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=str(ROOT / ".coverage"))
    parser.add_argument("--at-least", type=float, default=0.0, help="percent, CUDA lines apart")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json"
    )
    options = parser.parse_args()
    whole, without = report(options.data, FOR_TYPES), report(options.data, FOR_TYPES, CUDA)
    types = report(options.data, FOR_TYPES)["files"]
    files, cuda = {}, []
    for file, found in sorted(without["files"].items()):
        name = Path(file).relative_to(ROOT).as_posix() if Path(file).is_absolute() else file
        source = (ROOT / name).read_text().splitlines()
        files[name] = {
            **share(found["summary"]),
            "missing_lines": found["missing_lines"],
            "missing_branches": found["missing_branches"],
        }
        cuda += [
            f"{name}:{line}: {source[line - 1].strip()}"
            for line in found["excluded_lines"]
            if line not in types[file]["excluded_lines"]
        ]
    totals = {"cuda_apart": share(without["totals"]), "cuda_included": share(whole["totals"])}
    for name, found in files.items():
        if found["percent"] < 100:
            missing = found["missing_lines"], found["missing_branches"]
            print(f"{found['percent']:6.2f} % {name}: lines {missing[0]}, branches {missing[1]}")
    for name, found in totals.items():
        print(f"{found['percent']:6.2f} % {name}, {found['branch_percent']:.2f} % of the branches")
    print(f"{len(cuda)} lines need CUDA:", *cuda, sep="\n    ")
    data = "branch coverage of the tests of the package, those of the examples left out"
    settings = {"command": "make coverage", "data": data}
    write_result(options.out, settings, {**totals, "files": files, "needs_cuda": cuda})
    if totals["cuda_apart"]["percent"] < options.at_least:
        raise SystemExit(f"below {options.at_least} %")


if __name__ == "__main__":
    main()
