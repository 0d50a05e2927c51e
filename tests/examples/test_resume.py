"""Runs that are killed, stopped, starved of disk or damaged, and go on as if nothing had been."""

import errno
import importlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from common import journal, pipeline
from common.data import load
from common.journal import Journal, Stage, Stopped
from common.resuming import RUN, identity, open_folder
from common.run_folder import CHECKPOINTS, RunFolder
from common.settings import DataSettings, RunSettings, command_line
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

METHODS = ("spice", "rpsc", "scan")
TINY = shlex.split("""digits --accelerator cpu --backbone.width 2 --representation.epochs 2
    --representation.batch-size 32 --heads.heads 2 --heads.hidden 8 --heads.rounds 3
    --heads.batch-size 32 --heads.repeats 1 --heads.evaluate-every 1 --reliability.neighbors 5
    --reliability.above 0.1 --joint.steps 4 --joint.labelled-batch 8 --joint.unlabelled-batch 16
    --joint.evaluate-every 2 --no-pictures --checkpoint-every 0""")
RESULTS = ("labels.csv", "checkpoint.safetensors")


def few_digits(name, **options):
    data = load(name, **options)
    return data._replace(images=data.images[:120], truth=data.truth[:120])


def run(method, folder, *arguments):
    module = importlib.import_module(method)
    confident = ["--confident-from", "0.1"] if method == "scan" else []
    options = [*TINY, *confident, "--out", str(folder), *arguments]
    settings = command_line(module.__doc__, module.PRESETS, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load", few_digits)
        pipeline.main(settings, module.run)


def in_child(work, log=Path(os.devnull)):
    """The exit status of a process that does some work: -9 if it was killed."""
    pid = os.fork()
    if pid == 0:
        with log.open("w") as file, redirect_stdout(file), redirect_stderr(file):
            try:
                work()
            except BaseException:
                traceback.print_exc()
                file.flush()
                os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def calls_of(owner, name, count, then):
    """Has the call of that number do something else first."""
    made, usual = 0, getattr(owner, name)

    def counting(*arguments, **options):
        nonlocal made
        made += 1
        if made == count:
            then(*arguments, **options)
        return usual(*arguments, **options)

    setattr(owner, name, counting)


def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_the_middle_of_a_file(folder, name, write_to):
    def half(path):
        write_to(path)
        os.truncate(path, path.stat().st_size // 2)
        killed()

    usual_write(folder, name, half)


usual_write = RunFolder.write


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Of every method a run that nothing happened to, and how many steps and files it took."""
    made = {}

    def run_of(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method) / "run"
            counts = {"steps": 0, "files": 0}
            with pytest.MonkeyPatch.context() as patch:
                for owner, name, of in (
                    (Stage, "draw_anew", "steps"),
                    (RunFolder, "write", "files"),
                ):
                    usual = getattr(owner, name)

                    def counted(*arguments, _usual=usual, _of=of):
                        counts[_of] += 1
                        return _usual(*arguments)

                    patch.setattr(owner, name, counted)
                run(method, folder)
            made[method] = folder, counts
        return made[method]

    return run_of


def same(one, other):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in RESULTS)


def disturbed(folder, method, *arguments, owner=Stage, name="draw_anew", count=1, then=killed):
    def work():
        calls_of(owner, name, count, then)
        run(method, folder, *arguments)

    return in_child(work, log=folder.with_suffix(".log"))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_at_any_step_goes_on_as_if_it_had_not_been(method, undisturbed, tmp_path):
    whole, counts = undisturbed(method)
    draw, folder = random.Random(method), tmp_path / "run"
    # Every attempt is killed some steps further on, or, when fewer are left, ends.
    kills = 0
    while (status := disturbed(folder, method, "--resume", count=draw.randint(2, 6))) == -9:
        kills += 1
        assert kills < counts["steps"], "the run does not get on"
    assert status == 0, folder.with_suffix(".log").read_text()
    assert kills >= 3
    assert same(folder, whole)
    assert not (folder / CHECKPOINTS).exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_within_a_write_goes_on(method, undisturbed, tmp_path):
    whole, counts = undisturbed(method)
    for count in sorted(random.Random(method).sample(range(1, counts["files"] + 1), 4)):
        folder = tmp_path / f"run-{count}"
        sabotage = {"owner": RunFolder, "name": "write", "count": count}
        assert disturbed(folder, method, **sabotage, then=killed_in_the_middle_of_a_file) == -9
        run(method, folder, "--resume")
        assert same(folder, whole)


def test_what_happened_before_is_not_done_again(undisturbed, tmp_path):
    _, counts = undisturbed("spice")
    folder, done = tmp_path / "run", counts["steps"] - 2
    assert disturbed(folder, "spice", count=done) == -9
    log = folder.with_suffix(".log")
    assert disturbed(folder, "spice", "--resume", count=5) == 0, log.read_text()


def damages():
    def flip(file):
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)

    def of_another_run(file):
        said = json.loads(file.read_text())
        said["content"]["run"] = "0" * 64
        said["digest"] = journal.digest_of(said["content"])
        file.write_text(json.dumps(said))

    yield pytest.param("json", of_another_run, "another run", id="foreign")
    yield pytest.param("json", lambda file: file.write_text("{}"), "no checkpoint", id="empty")
    yield pytest.param("json", lambda file: os.truncate(file, 9), "damaged", id="json cut")
    yield pytest.param("json", flip, "damaged", id="json changed")
    yield pytest.param("safetensors", flip, "truncated or changed", id="tensors changed")
    yield pytest.param(
        "safetensors", lambda file: os.truncate(file, 99), "truncated or changed", id="tensors cut"
    )
    yield pytest.param("safetensors", Path.unlink, "cannot be read", id="tensors gone")


@pytest.mark.parametrize(("kind", "damage", "said"), list(damages()))
def test_a_damaged_checkpoint_makes_way_for_the_one_before_it(
    kind, damage, said, undisturbed, tmp_path, capsys
):
    whole, counts = undisturbed("spice")
    folder = tmp_path / "run"
    assert disturbed(folder, "spice", count=counts["steps"] - 1) == -9
    states = sorted((folder / CHECKPOINTS).glob(f"3-*.0*.{kind}"))
    assert len(states) == 2
    damage(states[-1])
    run("spice", folder, "--resume")
    assert said in capsys.readouterr().err
    assert same(folder, whole)


def test_a_finished_stage_that_is_damaged_is_done_again_from_its_last_state(
    undisturbed, tmp_path, capsys
):
    whole, counts = undisturbed("rpsc")
    folder = tmp_path / "run"
    assert disturbed(folder, "rpsc", count=counts["steps"] - 1) == -9
    damaged = sorted((folder / CHECKPOINTS).glob("*.done.safetensors"))
    assert len(damaged) == 4
    for file in damaged:
        os.truncate(file, 5)
    run("rpsc", folder, "--resume")
    assert capsys.readouterr().err.count("truncated or changed") == 4
    assert same(folder, whole)


def test_all_checkpoints_damaged_start_the_run_anew(undisturbed, tmp_path):
    whole, counts = undisturbed("spice")
    folder = tmp_path / "run"
    assert disturbed(folder, "spice", count=counts["steps"] // 2) == -9
    for file in (folder / CHECKPOINTS).iterdir():
        file.write_bytes(b"?")
    run("spice", folder, "--resume")
    assert same(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_saves_and_says_how_to_go_on(number, undisturbed, tmp_path):
    whole, counts = undisturbed("spice")
    folder = tmp_path / "run"
    sabotage = {"count": counts["steps"] - 2, "then": lambda *_: os.kill(os.getpid(), number)}
    assert disturbed(folder, "spice", "--checkpoint-every", "1e6", **sabotage) == 1
    said = folder.with_suffix(".log").read_text()
    assert "Stopped: 3 joint training, warm start: stopped after step 2" in said
    assert "--resume goes on" in said
    assert len(list((folder / CHECKPOINTS).glob("3-*.0*.json"))) == 1
    run("spice", folder, "--resume")
    assert same(folder, whole)


def test_a_second_interruption_is_not_waited_with(tmp_path):
    stage = Stage("x", journal=Journal(RunFolder(tmp_path), {}, every=1e6))
    with stage.stoppable():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_only_the_last_two_states_are_kept(undisturbed, tmp_path):
    _, counts = undisturbed("spice")
    folder = tmp_path / "run"
    assert disturbed(folder, "spice", count=counts["steps"]) == -9
    states = [file.name for file in (folder / CHECKPOINTS).glob("*.0*.json")]
    assert len(states) == 6  # of three stages
    assert {file.suffix for file in (folder / CHECKPOINTS).iterdir()} == {".json", ".safetensors"}


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing(undisturbed, tmp_path):
    whole, counts = undisturbed("spice")
    folder = tmp_path / "run"
    sabotage = {"owner": RunFolder, "name": "write", "count": counts["files"] // 2, "then": full}
    assert disturbed(folder, "spice", **sabotage) == 1
    said = folder.with_suffix(".log").read_text()
    assert "cannot write a checkpoint (the disk is full)" in said
    assert "kept" in said
    assert list((folder / CHECKPOINTS).glob("*.json"))
    run("spice", folder, "--resume")
    assert same(folder, whole)


def test_a_real_full_disk(undisturbed, tmp_path):
    whole, _ = undisturbed("spice")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=140k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        assert in_child(lambda: run("spice", small / "run"), log=tmp_path / "log") == 1
        assert "the disk is full" in (tmp_path / "log").read_text()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        run("spice", small / "run", "--resume")
        assert same(small / "run", whole)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_loss_that_turns_nan_leaves_the_last_good_state(tmp_path):
    folder = tmp_path / "run"
    options = ("--representation.optimizer", "sgd", "--representation.learning-rate", "1e38")
    with pytest.raises(FloatingPointError, match=r"1 representation.*no longer finite at step"):
        run("spice", folder, *options)
    for file in (folder / CHECKPOINTS).glob("1-*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(file).values())
    assert not (folder / "metrics.json").exists()


def test_a_run_goes_on_with_its_own_settings_alone(undisturbed, tmp_path):
    _, counts = undisturbed("spice")
    folder = tmp_path / "run"
    assert disturbed(folder, "spice", count=counts["steps"] // 2) == -9
    with pytest.raises(ValueError, match=r"heads\.rounds was 3 and is 9"):
        run("spice", folder, "--resume", "--heads.rounds", "9")
    with pytest.raises(FileExistsError, match="--resume to go on"):
        run("spice", folder)


def test_a_setting_is_put_right_in_another_run_that_begins_with_stage_1(undisturbed, tmp_path):
    whole, _ = undisturbed("spice")
    before, after = tmp_path / "before", tmp_path / "after"
    bad = (
        "--joint.optimizer",
        "sgd",
        "--joint.learning-rate",
        "1e38",
        "--joint.schedule",
        "constant",
    )
    with pytest.raises(
        ValueError,
        match=r"3 joint training, warm start, step 2: .*got nan; a smaller learning rate",
    ):
        run("spice", before, *bad)
    with pytest.raises(ValueError, match=f"begin with its stage 1: --encoder-from {before}"):
        run("spice", before, "--resume")
    run("spice", after, "--encoder-from", str(before))
    assert (after / "labels.csv").read_bytes() == (whole / "labels.csv").read_bytes()


def test_a_folder_of_something_else_is_not_gone_on_with(tmp_path):
    (tmp_path / "letter.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"expected a run to go on with.*run\.json"):
        run("spice", tmp_path, "--resume")
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def goes_on(out, root, **options):
    """The identity of a run that goes on with the folder `root`."""
    settings = RunSettings(out, resume=True, data=DataSettings(root=Path(root), **options))
    run = identity(settings, few_digits("digits"))
    open_folder(settings, run)
    return run


@pytest.mark.parametrize("written", ["shapes", "other/../shapes", "link"])
def test_a_run_goes_on_with_the_same_folder_written_in_another_way(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("shapes", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("shapes")
    started = goes_on(Path("run"), written)
    assert Path(started["settings"]["data"]["root"]).is_absolute()
    for again in ("shapes", tmp_path / "shapes", "./other/../shapes", "link"):
        # The same identity, for the checkpoints there hold its digest.
        assert goes_on(Path("run"), again) == started
    monkeypatch.chdir(tmp_path / "other")
    assert goes_on(tmp_path / "run", "../shapes") == started
    with pytest.raises(ValueError, match=r"data\.root was '.*' and is '.*other'"):
        goes_on(tmp_path / "run", ".")
    with pytest.raises(ValueError, match=r"data\.size was None and is 9"):
        goes_on(tmp_path / "run", "../shapes", size=9)
    # Where the images are kept changes nothing.
    assert goes_on(tmp_path / "run", "../shapes", cache=Path("cache"), on_device=False) == started


@pytest.mark.parametrize("part", ["images", "held_out", "unlabelled"])
def test_a_run_goes_on_with_its_own_images_alone(part, tmp_path):
    data = few_digits("digits")
    parts = {"images": data.images, "held_out": data, "unlabelled": data.images}
    data = data._replace(**parts)
    open_folder(RunSettings(tmp_path), identity(RunSettings(tmp_path), data))
    images = data.images.clone()
    images[1] += 1  # the second of many
    changed = data._replace(images=images) if part == "held_out" else images
    again = RunSettings(tmp_path, resume=True)
    with pytest.raises(ValueError, match=rf"{part}\.digest was"):
        open_folder(again, identity(again, data._replace(**{part: changed})))
    open_folder(again, identity(again, data))


def test_a_finished_run_keeps_no_checkpoints(undisturbed, tmp_path):
    """Though it was killed between its last file and their end."""
    whole, _ = undisturbed("spice")
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / CHECKPOINTS).mkdir()
    (folder / CHECKPOINTS / "1-7.safetensors").write_text("")
    run("spice", folder, "--resume")
    assert not (folder / CHECKPOINTS).exists()


def test_a_finished_run_no_longer_needs_the_one_it_began_with(undisturbed, tmp_path, capsys):
    whole, _ = undisturbed("spice")
    first = shutil.copytree(whole, tmp_path / "first")
    folder = tmp_path / "run"
    run("spice", folder, "--encoder-from", str(first))
    shutil.rmtree(first)
    run("spice", folder, "--encoder-from", str(first), "--resume")
    assert "the run is finished" in capsys.readouterr().out


def test_a_run_whose_folder_holds_a_relative_path_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path("run")
    written = goes_on(out, "shapes")
    written["settings"]["data"]["root"] = "shapes"
    (out / RUN).write_text(json.dumps(written))
    assert goes_on(out, "shapes") == goes_on(out, tmp_path / "shapes") == written


def test_what_is_no_run_is_not_gone_on_with(tmp_path):
    (tmp_path / RUN).write_text("[]")
    with pytest.raises(ValueError, match=r"expected a run to go on with.*run\.json"):
        goes_on(tmp_path, "shapes")


def test_a_finished_run_has_nothing_to_go_on_with(undisturbed, capsys):
    folder, _ = undisturbed("spice")
    before = (folder / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    run("spice", folder, "--resume")
    told = capsys.readouterr().out
    assert "the run is finished" in told
    assert "pictures" not in told
    run("spice", folder, "--resume", "--pictures")
    assert "It was not asked for pictures" in capsys.readouterr().out
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_an_overwritten_run_starts_anew_whatever_was_there(undisturbed, tmp_path):
    whole, counts = undisturbed("spice")
    folder = tmp_path / "run"
    assert disturbed(folder, "spice", "--seed", "5", count=counts["steps"] // 2) == -9
    run("spice", folder, "--overwrite")
    assert same(folder, whole)


def test_a_checkpoint_holds_no_pickle():
    sources = "".join(path.read_text() for path in Path(journal.__file__).parent.rglob("*.py"))
    assert "torch.load" not in sources
    assert "pickle" not in sources.replace("No pickle", "").replace("allow_pickle=False", "")


@pytest.mark.parametrize("value", [{1: [torch.arange(3), None, 0.1], "x": {"y": (True, "z")}}, []])
def test_state_comes_back_as_it_was(value, tmp_path):
    book = Journal(RunFolder(tmp_path), {"a": 1}, every=0)
    book.write("x", value)
    assert repr(book.read("x")) == repr(value).replace("(", "[").replace(")", "]").replace(
        "tensor[[0, 1, 2]]", "tensor([0, 1, 2])"
    )


def test_a_state_that_cannot_be_kept_is_refused(tmp_path):
    book = Journal(RunFolder(tmp_path), {}, every=0)
    with pytest.raises(TypeError, match=r"state/a/0: expected tensors.*got set"):
        book.write("x", {"a": [set()]})


def test_the_message_of_a_stop_is_an_exception_of_its_own():
    assert not issubclass(Stopped, (OSError, ValueError))
