"""How ranks talk: they agree before they start, gather rows, and pass blocks round a ring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pseudolabel._checks import wrong_type


class Ranks:
    """The ranks of a group, and how many samples each of them holds once they have agreed.

    Args:
        group: None means all ranks, or this process alone where there is no process group.

    Attributes:
        size: How many ranks.
        rank: Which of them this one is.
        sizes: Samples of every rank.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        alone = not (dist.is_available() and dist.is_initialized())
        given: object = group
        if not alone and given == dist.GroupMember.NON_GROUP_MEMBER:  # what new_group gives others
            raise ValueError("process_group: expected a group of this rank, got one without it")
        if group is not None and not isinstance(group, dist.ProcessGroup):
            wrong_type("process_group", "a process group or None", group)
        self.group = group
        self.size = 1 if alone else dist.get_world_size(group)
        self.rank = 0 if alone else dist.get_rank(group)
        self.sizes: list[int] = []

    @property
    def total(self) -> int:
        """Samples in all."""
        return sum(self.sizes)

    @property
    def offsets(self) -> list[int]:
        """Where the samples of every rank start."""
        return [0, *accumulate(self.sizes)][:-1]

    @property
    def own(self) -> slice:
        """Where this rank's samples lie among all."""
        start = self.offsets[self.rank]
        return slice(start, start + self.sizes[self.rank])

    def agree(self, count: int, check: Callable[[], Mapping[str, object]]) -> None:
        """Sets `sizes`, unless a rank has been called wrongly or otherwise than the others.

        Args:
            count: Samples of this rank.
            check: Raises if this rank was called wrongly; else says what has to be the same.

        Raises:
            ValueError: What is wrong on this rank, or on another one.
            TypeError: What is wrong on this rank.
        """
        error, said = None, dict[str, object]()
        try:
            said = {name: str(value) for name, value in check().items()}
        except (TypeError, ValueError) as wrong:
            error = wrong
        reports = self.exchange((count, None if error is None else str(error), said))
        if error is not None:
            raise error
        for rank, (_, message, _) in enumerate(reports):
            if message is not None:
                raise ValueError(f"{message} (on rank {rank})")
        for rank, (_, _, other) in enumerate(reports):
            for name, value in reports[0][2].items():
                if other[name] != value:
                    raise ValueError(
                        f"{name}: expected the same on every rank, got {value} on rank 0 and "
                        f"{other[name]} on rank {rank}"
                    )
        self.sizes = [report[0] for report in reports]

    def exchange(self, value: Any) -> list[Any]:  # noqa: ANN401 - whatever was given
        """A small value of every rank."""
        values = [value] * self.size
        if self.size > 1:
            with _answering():
                dist.all_gather_object(values, value, group=self.group)
        return values

    def gather(self, rows: Tensor, sizes: list[int]) -> Tensor:
        """The rows ``(n, ...)`` of every rank, ``(sum(sizes), ...)``, on every rank."""
        if self.size == 1 or sum(sizes) == 0:
            return rows
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        with _answering():
            dist.all_gather([_raw(part) for part in parts], _raw(padded), group=self.group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def ring(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Every rank's rows ``(n, ...)`` in turn, this rank's first, and whose they are.

        While a block is looked at the next one travels: at most two visit at a time.
        """
        block = rows.contiguous()
        for step in range(self.size):
            owner = (self.rank - step) % self.size
            travelling: list[dist.Work] = []
            if step + 1 < self.size:
                coming = block.new_empty(self.sizes[(owner - 1) % self.size], *block.shape[1:])
                with _answering():
                    travelling = self._pass_on(block, coming)
            yield owner, block
            with _answering():
                for work in travelling:
                    work.wait()
            if step + 1 < self.size:
                block = coming

    def _pass_on(self, block: Tensor, coming: Tensor) -> list[dist.Work]:
        operations = [
            dist.P2POp(act, _raw(tensor), self._name((self.rank + step) % self.size), self.group)
            for act, tensor, step in ((dist.isend, block, 1), (dist.irecv, coming, -1))
            if tensor.numel()
        ]
        return list(dist.batch_isend_irecv(operations)) if operations else []

    def _name(self, rank: int) -> int:
        return rank if self.group is None else dist.get_global_rank(self.group, rank)


def _raw(x: Tensor) -> Tensor:
    """The bytes of a contiguous tensor: not every library sends every dtype."""
    return x.view(-1).view(torch.uint8)


@contextmanager
def _answering() -> Iterator[None]:
    """Says in words what it means when a call to the others fails."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "another rank of the process group has failed, or did not answer within the group's "
            "timeout; see the error above, and that rank's own"
        ) from error
