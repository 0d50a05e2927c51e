"""What a run has done so far, so that it goes on exactly where it was killed.

A stage that is over leaves what it came to. The one in progress leaves its state now and then, at a
step from which everything random is a function of the seed and the step: no generator is kept. The
last two states of every stage stay until the run is over; a damaged one makes way for the previous.
"""

from __future__ import annotations

import errno
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from common.checkpoints import DamagedCheckpoint, digest_of, read_checkpoint, write_checkpoint
from common.network import save_parts
from common.ranks import first_decides, rank, wait_for_all
from common.run_folder import CHECKPOINTS, RunFolder
from common.timing import spent

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

GO_ON = "The same command with --resume goes on from the last checkpoint."
KEPT = 2

Result = TypeVar("Result")


class Stateful(Protocol):
    """A module, an optimiser, or whatever else says its state as tensors and plain values."""

    def state_dict(self) -> Any:  # noqa: ANN401
        """The state."""

    def load_state_dict(self, state: Any) -> object:  # noqa: ANN401
        """Takes a state over."""


class Stopped(Exception):
    """The run ends here by the user's wish or by a fault; nothing is lost. Says how to go on."""


class Journal:
    """The checkpoints of a run.

    Args:
        folder: Of the run.
        run: What tells it from other runs, as JSON has it: a checkpoint of another is foreign.
        every: Seconds between two states of a stage; 0 for as often as can be.
    """

    def __init__(self, folder: RunFolder, run: dict[str, Any], *, every: float) -> None:
        self.folder, self.every = folder, every
        self.run = digest_of(run)

    def write(self, name: str, state: object) -> None:
        """Writes a checkpoint, from the first rank.

        Raises:
            Stopped: If it cannot be written.
        """
        if rank() == 0:
            with _stopping_if_it_fails():
                write_checkpoint(self.folder, f"{CHECKPOINTS}/{name}", state, run=self.run)

    def leave(self, modules: Mapping[str, nn.Module]) -> None:
        """Writes modules where other runs look for them, long before this one is over.

        Raises:
            Stopped: If they cannot be written.
        """
        if rank() == 0:
            with _stopping_if_it_fails():
                save_parts(self.folder, modules)

    def read(self, name: str) -> Any | None:  # noqa: ANN401
        """Reads a checkpoint; says so and gives None where it is damaged or foreign."""
        path = self.folder.path / CHECKPOINTS / f"{name}.json"
        if not path.exists():
            return None
        try:
            return read_checkpoint(path, run=self.run)
        except DamagedCheckpoint as damage:
            if rank() == 0:
                print(f"{damage}; going on from the one before it.", file=sys.stderr)
            return None

    def steps(self, name: str) -> list[int]:
        """The steps at which a stage has left its state, latest first."""
        pattern = re.compile(re.escape(name) + r"\.(\d{9})\.json")
        folder = self.folder.path / CHECKPOINTS
        files = folder.iterdir() if folder.is_dir() else ()
        found = [pattern.fullmatch(file.name) for file in files]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def prune(self, name: str) -> None:
        """Removes all but the last states of a stage."""
        for step in self.steps(name)[KEPT:] if rank() == 0 else ():
            for kind in ("json", "safetensors"):
                path = self.folder.path / CHECKPOINTS / f"{name}.{step:09d}.{kind}"
                path.unlink(missing_ok=True)


class Stage:
    """One stage of a run, as its loop sees it.

    Args:
        title: What it is called, on the progress bar too.
        seed: Of everything random in it.
        journal: None keeps nothing.
        log: TensorBoard's, or None.

    Attributes:
        notes: What was told last, by name.
    """

    def __init__(
        self,
        title: str,
        seed: int = 0,
        journal: Journal | None = None,
        log: SummaryWriter | None = None,
    ) -> None:
        self.title, self.seed, self.journal, self.log = title, seed, journal, log
        self.notes: dict[str, float] = {}
        self.name = re.sub(r"\W+", "-", title.strip())
        self._written = monotonic()
        self._asked_to_stop = False

    def once(self, work: Callable[[], Result]) -> Result:
        """Does the work of the stage, or recalls what it came to.

        Args:
            work: Gives tensors and plain values, all that the rest of the run needs of the stage.
        """
        done = self.journal and self.journal.read(f"{self.name}.done")
        if done is None:
            result = work()
            if self.journal is not None:
                done = {"result": result, "spent": spent().state_dict()}
                self.journal.write(f"{self.name}.done", done)
        else:
            result = done["result"]
            spent().load_state_dict(done["spent"])
        wait_for_all()
        return result

    def restore(self, state: dict[str, Stateful]) -> int:
        """Puts the objects into the last state that is whole.

        Returns:
            The step to go on from; 0 if there is none, and then nothing is changed.
        """
        for step in self.journal.steps(self.name) if self.journal else ():
            saved = self.journal.read(f"{self.name}.{step:09d}")
            if saved is not None:
                for name, stateful in state.items():
                    stateful.load_state_dict(saved[name])
                wait_for_all()
                return step
        wait_for_all()
        return 0

    def pause(
        self,
        step: int,
        state: dict[str, Stateful],
        device: torch.device,
        check: Callable[[], object],
    ) -> None:
        """Keeps the state if it is time to, and leaves if the user has asked to.

        Args:
            step: How many steps led to it.
            state: See `restore`.
            device: On which the ranks talk.
            check: Raises if the state is not worth keeping.

        Raises:
            Stopped: If the user has pressed Ctrl-C, or the state cannot be written.
        """
        if self.journal is None:
            return
        due = monotonic() - self._written >= self.journal.every
        wish = first_decides(2 if self._asked_to_stop else int(due and step > 0), device)
        if wish and step:
            check()
            content = {name: stateful.state_dict() for name, stateful in state.items()}
            self.journal.write(f"{self.name}.{step:09d}", content)
            self.journal.prune(self.name)
            self._written = monotonic()
        if wish == 2:
            raise Stopped(f"{self.title}: stopped after step {step}. {GO_ON}")

    def tell(self, step: int, **numbers: float | Tensor) -> None:
        """Takes notes for the progress bar and the log."""
        for name, value in numbers.items():
            self.notes[name] = float(value)
            if self.log is not None:
                self.log.add_scalar(f"{self.title.strip()}/{name}", self.notes[name], step)

    def draw_anew(self, step: int) -> None:
        """Lets everything random from here on follow from the seed and the step alone."""
        torch.manual_seed(mixed(self.seed, step))

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Has Ctrl-C and SIGTERM wait for `pause`; a second one is not waited with."""
        if self.journal is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: object) -> None:
            self._asked_to_stop = True
            signal.signal(number, before[number])

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _stopping_if_it_fails() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
        raise Stopped(
            f"cannot write a checkpoint{full}: {error}. What was written before is kept. {GO_ON}"
        ) from None


def mixed(*numbers: int) -> int:
    """A seed that is as good as independent of that of any other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
