"""The sweep goes on where it stopped, and its table comes from the raw file alone."""

import json
import re
import subprocess

import pytest
from benchmark_modules import load_benchmark


@pytest.fixture
def sweep(monkeypatch):
    """The sweep, with runs that cost nothing and are written down."""
    made = load_benchmark("pipelines")
    made.started = []

    def run(data, configuration, options, seed, folder, encoder):
        made.started.append((configuration.name, seed, encoder is not None))
        if len(made.started) == made.stop_after:
            raise KeyboardInterrupt
        folder.mkdir(parents=True, exist_ok=True)
        return {"preset": data, **record(configuration.name, options, seed)}

    made.stop_after = None
    monkeypatch.setattr(made, "run", run)
    return made


def record(name, options="", seed=0, accuracy=0.5):
    scores = [{"stage": f"{n} x", "accuracy": accuracy, "nmi": 0.25, "ari": 0.1} for n in (1, 2, 3)]
    return {"configuration": name, "options": options, "seed": seed, "scores": scores}


def test_a_sweep_goes_on_where_it_stopped(sweep, tmp_path):
    settings = sweep.Settings(seeds=(0, 1), only="scan", results=tmp_path / "r.jsonl")
    sweep.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        sweep.main(settings)
    first, sweep.started, sweep.stop_after = sweep.started, [], None
    sweep.main(settings)
    names = [name for name, _, _ in first[:4]]
    assert names[0] == "scan"
    assert first[:5] == [
        *((name, 0, index > 0) for index, name in enumerate(names)),
        ("scan", 1, False),
    ]
    # The one that was cut short comes first, and now has no stage 1 to take over.
    assert sweep.started[0] == (first[5][0], 1, False)
    assert [key[:2] for key in sweep.started] == [(name, 1) for name in names[1:]]
    sweep.started = []
    sweep.main(settings)
    assert sweep.started == []
    assert len(sweep.read(settings.results)) == 8


def test_what_changes_stage_1_does_not_share_it(sweep, tmp_path):
    settings = sweep.Settings(
        seeds=(0,), results=tmp_path / "r.jsonl", options="--representation.epochs 1"
    )
    sweep.main(settings)
    names = [name for name, _, _ in sweep.started]
    assert len(names) == len(set(names)) > 30
    assert [shared for _, _, shared in sweep.started] == [False] + [True] * (len(names) - 1)


def test_the_table_has_mean_and_deviation(tmp_path):
    table = load_benchmark("results_table")
    records = [record("a", seed=seed, accuracy=x) for seed, x in enumerate((0.4, 0.5, 0.9))]
    lines = table.table([*records, record("b", "--loss ce")]).splitlines()
    assert lines[0].startswith("| configuration | options | seeds | k-means on the features ACC |")
    assert lines[2].startswith("| a |  | 3 | 0.600 ± 0.265 | 0.250 ± 0.000 |")
    assert lines[3].startswith("| b | `--loss ce` | 1 | 0.500 | 0.250 | 0.100 |")


def test_a_stage_that_a_run_lacks_stays_empty():
    short = record("a", seed=1)
    del short["scores"][2]
    row = load_benchmark("results_table").table([record("a"), short]).splitlines()[2]
    assert row.endswith("| 0.100 ± 0.000 |  |  |  |  |")


def test_the_papers_are_quoted_for_configurations_that_there_are():
    papers = load_benchmark("results_table").PAPERS
    names = {c.name for c in load_benchmark("pipelines").configurations(ablations=True)}
    assert set(papers) <= names
    row = load_benchmark("results_table").table([record("scan")]).splitlines()[2]
    assert row.endswith("| 0.459 CIFAR-100-20 |")


def test_a_seed_that_counts_twice_is_refused():
    with pytest.raises(ValueError, match="a: expected one run a seed, got 2 of 1"):
        load_benchmark("results_table").table([record("a"), record("a")])


def test_linear_probes_have_columns_where_there_are_any():
    made = load_benchmark("results_table").table
    runs = [record("a", seed=0), record("a", seed=1)]
    assert "probe" not in made(runs)
    for run, before, after in zip(runs, (0.5, 0.75), (0.75, 1.0), strict=True):
        for score, probe in zip(run["scores"], (before, None, after), strict=True):
            score["probe"] = probe
    title, _, row = made(runs).splitlines()
    assert title.endswith(
        "| linear probe after stage 1 | linear probe after stage 3 | ACC in the papers |"
    )
    assert row.endswith("| 0.625 ± 0.177 | 0.875 ± 0.177 |  |")


def test_a_document_is_filled_and_checked(tmp_path):
    table = load_benchmark("results_table")
    raw, document = tmp_path / "digits.jsonl", tmp_path / "results.md"
    raw.write_text(json.dumps(record("a")) + "\n")
    document.write_text("before\n<!-- digits -->\nold\n<!-- /digits -->\nafter\n")
    with pytest.raises(SystemExit, match="not that of the raw file"):
        table.main(table.Settings(raw, document, check=True))
    table.main(table.Settings(raw, document))
    text = document.read_text()
    assert text.startswith("before\n<!-- digits -->\n\n| configuration |")
    assert text.endswith("|\n\n<!-- /digits -->\nafter\n")
    table.main(table.Settings(raw, document, check=True))
    document.write_text("nothing marked")
    with pytest.raises(SystemExit, match="expected the lines <!-- digits -->"):
        table.main(table.Settings(raw, document))


def test_the_methods_alone_on_another_data_set(sweep, tmp_path):
    settings = sweep.Settings(
        data="fashion-mnist", seeds=(3,), ablations=False, results=tmp_path / "r.jsonl"
    )
    sweep.main(settings)
    assert sweep.started == [("spice", 3, False), ("rpsc", 3, True), ("scan", 3, True)]


def test_later_passes_begin_where_the_one_before_has_ended(sweep, tmp_path):
    begun = {}

    def run(data, configuration, options, seed, folder, encoder):
        folder.mkdir(parents=True)
        begun[folder.name] = (options, encoder and encoder.name)
        return {"preset": data, **record(configuration.name, options, seed)}

    sweep.run = run
    kept = {"results": tmp_path / "r.jsonl", "runs": tmp_path / "runs"}
    both = {"data": "fashion-mnist", "seeds": (3,), "ablations": False, "options": "--probe"}
    sweep.main(sweep.Settings(only="sp", **both, **kept))
    sweep.main(sweep.Settings(passes=3, **both, **kept))
    again = "--encoder-after 3 --probe"
    assert begun == {
        "fashion-mnist-spice-probe-3": ("--probe", None),
        "fashion-mnist-spice-pass-2-probe-3": (again, "fashion-mnist-spice-probe-3"),
        "fashion-mnist-spice-pass-3-probe-3": (again, "fashion-mnist-spice-pass-2-probe-3"),
        "fashion-mnist-rpsc-probe-3": ("--probe", "fashion-mnist-spice-probe-3"),
        "fashion-mnist-rpsc-pass-2-probe-3": (again, "fashion-mnist-rpsc-probe-3"),
        "fashion-mnist-rpsc-pass-3-probe-3": (again, "fashion-mnist-rpsc-pass-2-probe-3"),
        "fashion-mnist-scan-probe-3": ("--probe", "fashion-mnist-spice-probe-3"),
        "fashion-mnist-scan-pass-2-probe-3": (again, "fashion-mnist-scan-probe-3"),
        "fashion-mnist-scan-pass-3-probe-3": (again, "fashion-mnist-scan-pass-2-probe-3"),
    }
    with pytest.raises(SystemExit, match=r"rpsc-pass-3-probe-3: expected the pass before, which"):
        sweep.main(
            sweep.Settings(passes=4, only="rp", **both, **{**kept, "runs": tmp_path / "elsewhere"})
        )
    with pytest.raises(SystemExit, match="--passes: expected --runs"):
        sweep.main(sweep.Settings(passes=2))


def test_runs_that_differ_have_folders_of_their_own(sweep):
    names = {
        sweep.folder_name(data, name, options, seed)
        for data in ("digits", "fashion-mnist")
        for name in ("spice", "spice, pass 2", "spice: Table VII, CE")
        for options in ("", "--joint.steps 10", "--joint.steps 1")
        for seed in (0, 10)
    }
    assert len(names) == 36
    assert "digits-spice-joint.steps-10-0" in names


def test_only_methods_that_have_the_preset_are_run(sweep, tmp_path):
    few = {"seeds": (0,), "ablations": False, "results": tmp_path / "r.jsonl"}
    sweep.main(sweep.Settings(data="cifar10-paper", **few))
    assert [name for name, _, _ in sweep.started] == ["spice", "rpsc"]
    with pytest.raises(SystemExit, match="--data: expected a preset of a method, got 'nosuch'"):
        sweep.main(sweep.Settings(data="nosuch", **few))


def test_a_record_says_where_it_comes_from(sweep, tmp_path, monkeypatch):
    made = load_benchmark("pipelines")
    found = {"scores": [{"seconds": 2}, {"seconds": 3}], "findings": {}}
    metrics = {**found, "settings": {"out": "here", "encoder_from": None, "seed": 1}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(made.subprocess, "run", lambda *_, **__: None)
    spice = next(made.configurations(ablations=False))
    told = made.run("digits", spice, "--probe", 1, tmp_path, tmp_path)
    assert (told["preset"], told["seconds"], told["settings"]) == ("digits", 5, {"seed": 1})
    assert told["machine"]["processor"] == load_benchmark("_harness").processor()


def test_the_commit_is_that_of_the_sources(tmp_path, monkeypatch):
    made = load_benchmark("pipelines")
    monkeypatch.setattr(made, "ROOT", tmp_path)
    assert made.commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    clean = made.commit()
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "results.jsonl").write_text("2")
    assert made.commit() == clean
    (tmp_path / "examples" / "a.py").write_text("2")
    assert made.commit() == f"{clean}-dirty"
    monkeypatch.setenv("PATH", "")
    assert made.commit() is None


def test_other_data_in_the_same_file_are_other_runs(sweep, tmp_path):
    few = {"seeds": (0,), "ablations": False, "results": tmp_path / "r.jsonl", "only": "spice"}
    for data in ("digits", "fashion-mnist", "digits"):
        sweep.main(sweep.Settings(data=data, **few))
    assert [name for name, _, _ in sweep.started] == ["spice", "spice"]
    assert all("commit" in told for told in sweep.read(tmp_path / "r.jsonl"))


def test_a_later_pass_is_nobody_elses_stage_1(sweep, tmp_path):
    few = {"seeds": (0,), "ablations": False, "results": tmp_path / "r.jsonl"}
    sweep.main(sweep.Settings(only="spice", passes=2, runs=tmp_path / "runs", **few))
    (tmp_path / "runs" / "digits-spice-0").rmdir()
    sweep.main(sweep.Settings(passes=2, runs=tmp_path / "runs", **few))
    assert sweep.started[2] == ("rpsc", 0, False)


def test_kept_folders_share_stage_1_after_a_stop_too(sweep, tmp_path):
    settings = sweep.Settings(
        seeds=(0,), only="scan", results=tmp_path / "r.jsonl", runs=tmp_path / "runs"
    )
    sweep.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        sweep.main(settings)
    # The one that was stopped goes on with the encoder that it started from.
    stopped, sweep.started, sweep.stop_after = sweep.started[2], [], None
    sweep.main(settings)
    assert sweep.started[0] == stopped
    assert all(shared for _, _, shared in sweep.started)
