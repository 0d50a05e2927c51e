"""One run on several processes (``torchrun``), with the result of one process.

Every rank draws the same batch and the same views of it. An `common.network.Encoder` sees its
rank's share of the rows, and returns the features of all: whatever comes after it, heads, losses,
queues, thresholds, prototypes, works on the global batch, on every rank alike. So nothing has to be
wrapped, and only the gradients of encoders, each from its share of the rows, have to be added up.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import Tensor, nn


def world_size() -> int:
    """How many processes there are; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; 0 prints and writes files."""
    return dist.get_rank() if world_size() > 1 else 0


def fabric_for(accelerator: str, precision: str) -> Fabric:
    """A Fabric on one device, or on the devices that ``torchrun`` has started processes for."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return fabric_on(accelerator, devices=1, precision=precision)
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    fabric = fabric_on(
        accelerator,
        devices=local,
        num_nodes=processes // local,
        precision=precision,
        strategy="ddp",
    )
    fabric.launch()
    return fabric


def fabric_on(accelerator: str, **options: Any) -> Fabric:  # noqa: ANN401 - Fabric's own
    """A Fabric on an accelerator that the user has named.

    Raises:
        ValueError: If this machine has none, or there is no such name.
    """
    try:
        return Fabric(accelerator=accelerator, **options)
    except (ImportError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"--accelerator: expected one that this machine has, got {accelerator!r}: {error}"
        ) from None


def first_decides(value: int, device: torch.device) -> int:
    """The value that rank 0 has."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value, device=device)
    dist.broadcast(shared, 0)
    return int(shared)


def wait_for_all() -> None:
    """Returns once every rank has come here."""
    if world_size() > 1:
        dist.barrier()


def own_share(rows: Tensor) -> Tensor:
    """This rank's share of the rows ``(B, ...)`` of a batch that all ranks have."""
    return rows.tensor_split(world_size())[rank()]


def join_shares(share: Tensor, total: int) -> Tensor:
    """The rows of all shares ``(total, ...)``; the gradient goes back to this rank's own."""
    return share if world_size() == 1 else _JoinShares.apply(share, total)


class _JoinShares(torch.autograd.Function):
    @staticmethod
    def forward(context, share: Tensor, total: int) -> Tensor:  # noqa: ANN001
        sizes = [len(part) for part in torch.arange(total).tensor_split(world_size())]
        # All ranks send as much: the largest share, which is the first.
        padded = share.new_zeros(sizes[0], *share.shape[1:])
        padded[: len(share)] = share
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded)
        start = sum(sizes[: rank()])
        context.own = slice(start, start + sizes[rank()])
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001
        return gradient[context.own], None


def add_gradients(module: nn.Module) -> None:
    """Adds up over the ranks what `own_share` has parted, in place."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm by the statistics of the global batch, on any device.

    Torch's own `SyncBatchNorm` does not run on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``(B, C, H, W)``."""
        if world_size() == 1 or not self.training:
            return super().forward(x)
        wide = x.to(self.running_mean.dtype)
        count = wide.new_tensor([x.numel() // x.shape[1]])
        dist.all_reduce(count)
        mean = _sum_over_ranks(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = _sum_over_ranks(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(context, x: Tensor) -> Tensor:  # noqa: ANN001
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:  # noqa: ANN001
        # Every rank has used the sum: what it is worth to the loss is the sum of their gradients.
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(x: Tensor) -> Tensor:
    return _SumOverRanks.apply(x)
