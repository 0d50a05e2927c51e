"""Beyond memory: a limit that holds when measured from outside, and files that survive a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from comparisons import assert_identical
from strategies import gaussian

from pseudolabel import Neighbors, nearest_neighbors, reliable_mask
from pseudolabel.neighbors import _plan, _search

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")

# Draws features once, measures what importing and a first small search take, then the search asked
# for, watched by a thread; prints the peak of anonymous memory beyond that, in bytes.
MEASURE = """
import re, sys, threading, time
from pathlib import Path
import numpy as np, torch
from pseudolabel import nearest_neighbors, reliable_mask

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
path, limit, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if dtype == "float32":
    import pseudolabel.neighbors._search as search
    search.fast_dtype = lambda device: torch.float32
features = np.load(path, mmap_mode="r")
nearest_neighbors(torch.randn(1000, 64), 5)
before = anonymous()
peak, done = [before], []
def watch():
    while not done:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
reliable_mask(features, np.zeros(len(features), dtype=int), k=20, memory_limit=limit)
done.append(True)
thread.join()
print(peak[0] - before)
"""


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """17,000 x 96 float16 rows on disk: enough for tiles."""
    path = tmp_path_factory.mktemp("mapped") / "features.npy"
    np.save(path, gaussian(0, 17_000, 96).half().numpy())
    return path


@linux
@pytest.mark.parametrize("dtype", ["whichever is fast", "float32"])
@pytest.mark.parametrize("mebibytes", [48, 128, 512])
def test_anonymous_memory_stays_within_the_limit(mapped, mebibytes, dtype):
    limit = mebibytes * 2**20
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(mapped), str(limit), dtype],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert 0 < int(done.stdout) <= limit


def test_the_limit_does_not_show_in_the_answer(mapped):
    features = np.load(mapped, mmap_mode="r")[:16_500]
    queries = features[:4200]
    expected = nearest_neighbors(features, 5, queries=queries)
    little = nearest_neighbors(features, 5, queries=queries, memory_limit=40 * 2**20)
    assert_identical(little, expected)


def test_too_low_a_limit_says_what_is_needed():
    features = gaussian(0, 500, 20)
    with pytest.raises(ValueError, match=r"^memory_limit: expected at least (\d+) bytes") as error:
        nearest_neighbors(features, 5, memory_limit=1000)
    least = int(str(error.value).split("at least ")[1].split()[0])
    assert_identical(
        nearest_neighbors(features, 5, memory_limit=least), nearest_neighbors(features, 5)
    )


# Files -------------------------------------------------------------------------------------------


@pytest.fixture
def small_groups(monkeypatch):
    """Groups of 50 queries."""
    plan = _plan.make_plan
    monkeypatch.setattr(_search, "make_plan", lambda *args: plan(*args)._replace(group=50))


def test_out_holds_the_answer(tmp_path, small_groups):
    features = gaussian(0, 230, 9, dtype=torch.float32)
    expected = nearest_neighbors(features, 7)
    found = nearest_neighbors(features, 7, out=tmp_path / "graph")
    assert_identical(found, expected)
    assert sorted(path.name for path in (tmp_path / "graph").iterdir()) == [
        "indices.npy",
        "search.json",
        "similarity.npy",
    ]
    for field, values in zip(Neighbors._fields, expected, strict=True):
        stored = np.load(tmp_path / "graph" / f"{field}.npy")
        assert torch.equal(torch.from_numpy(stored), values)


def test_a_finished_search_is_read_not_repeated(tmp_path, monkeypatch):
    features = gaussian(0, 60, 9)
    expected = nearest_neighbors(features, 7, out=tmp_path)
    monkeypatch.setattr(_search.Search, "candidates", None)
    assert_identical(nearest_neighbors(features, 7, out=tmp_path), expected)


def test_an_interrupted_search_goes_on_where_it_was(tmp_path, monkeypatch, small_groups):
    features = gaussian(0, 230, 9, dtype=torch.float32)
    searched, candidates = [], _search.Search.candidates

    def interrupted(self, start, stop):
        if len(searched) == 3:
            raise KeyboardInterrupt
        searched.append((start, stop))
        return candidates(self, start, stop)

    monkeypatch.setattr(_search.Search, "candidates", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nearest_neighbors(features, 7, out=tmp_path)
    assert json.loads((tmp_path / "search.json").read_text())["done"] == 150
    assert not (tmp_path / "indices.npy").exists()
    searched.clear()
    found = nearest_neighbors(features, 7, out=tmp_path)
    assert searched == [(150, 200), (200, 230)]
    monkeypatch.undo()
    assert_identical(found, nearest_neighbors(features, 7))


KILLED = """
import sys, time, torch
from pseudolabel import nearest_neighbors
from pseudolabel.neighbors import _plan, _search
plan = _plan.make_plan
_search.make_plan = lambda *args: plan(*args)._replace(group=40)
search = _search.Search.candidates
def slowly(self, start, stop):
    time.sleep(0.1)
    return search(self, start, stop)
_search.Search.candidates = slowly
features = torch.randn(2000, 9, generator=torch.Generator().manual_seed(0))
nearest_neighbors(features, 7, out=sys.argv[1])
"""


def test_a_killed_search_ends_with_the_same_answer(tmp_path):
    features = torch.randn(2000, 9, generator=torch.Generator().manual_seed(0))
    for wait in (0.3, 0.9):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
        while not (tmp_path / "search.json").exists():
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = json.loads((tmp_path / "search.json").read_text())["done"]
    assert 0 < done < 2000
    found = nearest_neighbors(features, 7, out=tmp_path)
    assert_identical(found, nearest_neighbors(features, 7))


class Killed(BaseException):
    """Nobody catches it, as nobody does SIGKILL."""


@pytest.mark.parametrize("done", [False, True])
def test_a_search_that_is_killed_at_any_write_goes_on(tmp_path, monkeypatch, small_groups, done):
    features = gaussian(0, 120, 9)
    expected = nearest_neighbors(features, 7)

    def killing(write, moment):
        def until(*args):
            moment[0] -= 1
            if moment[0] == 0 and not done:
                raise Killed
            result = write(*args)
            if moment[0] == 0:
                raise Killed
            return result

        return until

    writes = [(Path, "write_text"), (Path, "replace"), (np.lib.format, "open_memmap")]
    killed = 0
    for number in range(1, 100):
        folder, moment = tmp_path / str(number), [number]
        with monkeypatch.context() as patch:
            for owner, name in writes:
                patch.setattr(owner, name, killing(getattr(owner, name), moment))
            try:
                nearest_neighbors(features, 7, out=folder)
            except Killed:
                killed += 1
        assert_identical(nearest_neighbors(features, 7, out=folder), expected)
        if moment[0] > 0:
            break
    assert killed == number - 1 > 12


@pytest.mark.parametrize("row", [0, 2999])
def test_a_change_of_any_row_makes_another_search(tmp_path, row):
    features = gaussian(0, 3000, 100, dtype=torch.float32)
    nearest_neighbors(features, 2, out=tmp_path)
    features[row] += 1
    with pytest.raises(ValueError, match=r"^out: expected .* of another, with features"):
        nearest_neighbors(features, 2, out=tmp_path)


def test_a_file_that_is_lost_is_named(tmp_path):
    features = gaussian(0, 60, 9)
    nearest_neighbors(features, 7, out=tmp_path)
    (tmp_path / "similarity.npy").unlink()
    with pytest.raises(ValueError, match=r"^out: expected .*similarity\.partial\.npy, got no"):
        nearest_neighbors(features, 7, out=tmp_path)


def test_rows_are_on_the_disk_before_they_are_noted_as_done(tmp_path, monkeypatch):
    steps = []
    flush, replace = np.memmap.flush, Path.replace
    monkeypatch.setattr(np.memmap, "flush", lambda x: steps.append(x.shape) or flush(x))
    monkeypatch.setattr(Path, "replace", lambda x, y: steps.append(y.name) or replace(x, y))
    nearest_neighbors(gaussian(0, 60, 9), 7, out=tmp_path)
    start, group = steps[:1], steps[1:4]
    assert start == ["search.json"]
    assert group == [(60, 7), (60, 7), "search.json"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"k": 8}, "k 7"),
        ({"metric": "euclidean"}, "metric 'cosine'"),
        ({"include_self": True}, "include_self False"),
        ({"features": gaussian(1, 60, 9)}, "features "),
        ({"queries": gaussian(1, 60, 9)}, "queries None"),
    ],
)
def test_the_folder_of_another_search_is_refused(tmp_path, change, named):
    call = {"features": gaussian(0, 60, 9), "k": 7}
    expected = nearest_neighbors(**call, out=tmp_path)
    with pytest.raises(ValueError, match=f"^out: expected .* of another, with {named}"):
        nearest_neighbors(**{**call, **change}, out=tmp_path)
    assert_identical(nearest_neighbors(**call, out=tmp_path), expected)


def test_the_folder_of_a_search_by_another_backend_is_refused(tmp_path):
    class Mine:
        def add(self, rows):
            self.rows = rows

        def search(self, queries, k):
            scores = queries @ self.rows.T
            found = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(scores, found, 1), found

    class Yours(Mine):
        pass

    features = gaussian(0, 60, 9)
    nearest_neighbors(features, 7, backend=Mine(), out=tmp_path)
    with pytest.raises(ValueError, match=r"^out: expected .* of another, with backend 'Mine'"):
        nearest_neighbors(features, 7, backend=Yours(), out=tmp_path)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(ValueError, match=r"^out: expected a new or empty folder"):
        nearest_neighbors(gaussian(0, 60, 9), 7, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_record_is_named(tmp_path):
    nearest_neighbors(gaussian(0, 60, 9), 7, out=tmp_path)
    (tmp_path / "search.json").write_text('{"k": ')
    with pytest.raises(ValueError, match=r"^out: expected a readable .*search\.json"):
        nearest_neighbors(gaussian(0, 60, 9), 7, out=tmp_path)


# Progress ----------------------------------------------------------------------------------------


def test_progress_goes_to_the_end_of_its_bar(capsys):
    features = gaussian(0, 300, 9)
    quiet = nearest_neighbors(features, 7)
    assert capsys.readouterr().err == ""
    assert_identical(nearest_neighbors(features, 7, progress=True), quiet)
    assert "100%" in capsys.readouterr().err
    reliable_mask(features, torch.zeros(300, dtype=torch.int64), k=5, progress=True)
    assert "100%" in capsys.readouterr().err
    nearest_neighbors(features, 7, progress=True, backend="faiss")
    assert "100%" in capsys.readouterr().err


def test_without_tqdm_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="needs tqdm"):
        nearest_neighbors(gaussian(0, 30, 3), 2, progress=True)
