"""What an audit leaves in its folder, every word and number but the seconds and the versions.

It is in audit_folder.txt, file by file, to be read in one go; as a script this file writes it anew.
"""

import json
import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from test_report_pages import Outline

from pseudolabel.cli import main

ON_FILE = Path(__file__).with_name("audit_folder.txt")


def make_inputs(work):
    """Three groups of nine; one row is in the wrong group, two have no label."""
    rows = np.arange(27)
    centres = np.array([[0.0, 9, 3], [8.0, 0, 2], [-7.0, -5, 1]])
    steps = np.stack([rows * 7 % 5 - 2, rows * 3 % 7 - 3, rows % 2], axis=1)
    labels = np.array(["oak", "fir", "an <elm>"])[rows % 3]
    labels[[3, 13]], labels[20] = "", "fir"
    np.save(work / "features.npy", (centres[rows % 3] + steps).astype(np.float32))
    np.save(work / "labels.npy", labels)
    (work / "leaves").mkdir()
    for row in rows.tolist():
        Image.new("L", (9, 8), row).save(work / "leaves" / f"{row:02d}.png")


def audit(work):
    make_inputs(work)
    inputs = [f"{work}/features.npy", f"{work}/labels.npy", "--images", f"{work}/leaves"]
    options = ["--neighbors", "4", "--threshold", "0.5", "--quiet"]
    assert main(["audit", *inputs, "--out", f"{work}/out", *options]) == 0
    return work / "out"


def told(folder, work):
    """Every file as text; arrays as they print, numbers that change with the machine as dots."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npy":
            text = " ".join(map(repr, np.load(path).tolist()))
        elif path.suffix == ".json":
            summary = json.loads(path.read_text())
            for changing in ("seconds", "versions"):
                summary[changing] = dict.fromkeys(summary[changing], "...")
            text = json.dumps(summary, indent=1)
        elif path.suffix == ".html":
            text = "\n".join(Outline(path.read_text()).lines)
            text = re.sub(r"(> (seconds|version): .*<td>) .*", r"\1 ...", text)
        else:
            text = path.read_text()
        lines += [f"# {path.name}", *text.replace(str(work), "WORK").splitlines()]
    return lines


def test_an_audit_writes_what_is_on_file(tmp_path, capsys):
    found = told(audit(tmp_path), tmp_path)
    assert found == ON_FILE.read_text().splitlines()
    said = capsys.readouterr().out.splitlines()[0]
    assert said == "27 rows, 3 classes; 24 of 25 labels are reliable, 1 rows are doubtful"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        written = told(audit(Path(work)), Path(work))
    ON_FILE.write_text("".join(f"{line}\n" for line in written))
