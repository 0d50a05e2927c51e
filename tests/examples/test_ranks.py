"""Two processes with one global batch end where one process ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from common.network import Architecture, encoders_of
from common.ranks import GlobalBatchNorm2d, add_gradients, join_shares, own_share
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
TINY = """digits --accelerator cpu --representation.epochs 1 --heads.heads 3 --heads.rounds 2
    --reliability.above 0.5 --joint.steps 4 --no-pictures --no-baselines --checkpoint-every 0"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def command(processes, method, folder, *options):
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        start += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    return [*start, f"examples/{method}.py", *TINY.split(), "--out", str(folder), *options]


def launched(*arguments):
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def weights_of(folder):
    return load_file(folder / "checkpoint.safetensors")


@pytest.mark.parametrize("method", ["spice", "rpsc", "scan"])
def test_two_processes_end_where_one_ends(method, tmp_path):
    one = launched(1, method, tmp_path / "one", "--precision", "64-true")
    two = launched(2, method, tmp_path / "two", "--precision", "64-true")
    finished(one)
    output = finished(two)
    assert output.count("Labels, metrics, checkpoint") == 1, "one rank alone prints"

    first, second = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-6, msg=name)
    labels = [(tmp_path / run / "labels.csv").read_text().splitlines() for run in ("one", "two")]
    pairs = [(a.split(",")[1], b.split(",")[1]) for a, b in zip(*labels, strict=True)]
    assert all(a == b for a, b in pairs)


def test_two_processes_that_are_killed_go_on_together(tmp_path):
    whole = launched(2, "rpsc", tmp_path / "whole")
    process = launched(2, "rpsc", tmp_path / "run")
    while not list((tmp_path / "run").glob("checkpoints/2-*.json")):
        assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    subprocess.run(["pkill", "-9", "-f", str(tmp_path / "run")], check=False)
    finished(whole)
    finished(launched(2, "rpsc", tmp_path / "run", "--resume"))
    for name in ("labels.csv", "checkpoint.safetensors"):
        files = [tmp_path / run / name for run in ("whole", "run")]
        assert files[0].read_bytes() == files[1].read_bytes()


def build():
    torch.manual_seed(0)
    return Architecture("convnet-8", 2, 1, 4, 8, "batch", 3).build().double()


def learn(network, views):
    """One step's gradients and BatchNorm statistics, by a loss of the whole batch."""
    network.train()
    logits = network(views)
    (logits.softmax(-1).mean(0).square().sum() + logits.square().mean()).backward()
    for encoder in encoders_of(network):
        add_gradients(encoder)
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return logits.detach(), gradients, dict(network.named_buffers())


def on_a_rank(rank, world, port, folder):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    torch.manual_seed(1)
    for count in (7, 8):
        views = torch.rand(count, 1, 8, 8, dtype=torch.float64)
        torch.save(learn(build(), views), folder / f"{count}-{rank}.pt")
        shares = [torch.zeros(1, dtype=torch.int64) for _ in range(world)]
        dist.all_gather(shares, torch.tensor([len(own_share(views))]))
        assert sum(int(share) for share in shares) == count
        assert torch.equal(join_shares(own_share(views), count), views)
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_a_step_of_several_ranks_is_that_of_one(world, tmp_path):
    mp.spawn(on_a_rank, (world, free_port(), tmp_path), nprocs=world)
    torch.manual_seed(1)
    for count in (7, 8):
        views = torch.rand(count, 1, 8, 8, dtype=torch.float64)
        expected = learn(build(), views)
        for rank in range(world):
            got = torch.load(tmp_path / f"{count}-{rank}.pt")
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_on_one_rank_nothing_is_shared():
    rows = torch.rand(5, 2)
    assert own_share(rows) is not None
    assert torch.equal(own_share(rows), rows)
    assert join_shares(rows, 5) is rows
    norms = [m for m in build().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(norm, GlobalBatchNorm2d) for norm in norms)


def test_a_run_tells_how_it_was_asked_for(tmp_path):
    finished(launched(1, "spice", tmp_path / "one", "--joint.steps", "1"))
    said = json.loads((tmp_path / "one" / "run.json").read_text())
    assert said["settings"]["joint"]["steps"] == 1
