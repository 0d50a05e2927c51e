"""Starts ranks that each run the same function, and says what came of every one."""

import os
import pickle
import signal
import socket
import tempfile
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def on_ranks(world, work, *, timeout=60):
    """What ``work(rank)`` gives on every rank, or the exception it ends with.

    Ranks are forked, so that torch need not be loaded again; one that is killed gives its signal.
    One that is done stays until no other is at work: the first has the server by which they meet,
    and a connection that ends is an error to whoever is still making it.
    """
    port, folder = free_port(), Path(tempfile.mkdtemp())
    stays, leaves = os.pipe()
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            os.close(leaves)
            fine = _be(rank, world, work, port, folder / str(rank), timeout)
            if fine:
                os.read(stays, 1)
            os._exit(0)
        children.append(child)
    at_work = dict(enumerate(children))
    while at_work:
        for rank, child in [*at_work.items()]:
            dead = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if dead or (folder / str(rank)).exists():
                del at_work[rank]
        time.sleep(0.01)
    os.close(leaves)
    os.close(stays)
    results = []
    for rank, child in enumerate(children):
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file = folder / str(rank)
        results.append(pickle.loads(file.read_bytes()) if file.exists() else signal.Signals(-code))
    return results


def _be(rank, world, work, port, file, timeout):
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=timeout),
        )
        result, fine = work(rank), True
    except Exception as error:
        traceback.print_exc()
        result, fine = error, False
    aside = file.with_suffix(".part")
    aside.write_bytes(pickle.dumps(result))
    aside.rename(file)
    return fine
