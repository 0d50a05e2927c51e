"""The one training loop, and the batches it runs on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

Batch = TypeVar("Batch")

STEPS_BETWEEN_LOSSES = 20  # reading a loss waits for the device


def fit(
    fabric: Fabric,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss_of: Callable[[Batch], Tensor],
    *,
    steps: int,
    title: str,
    decay: bool = True,
    after_step: Callable[[], object] | None = None,
) -> None:
    """Takes one optimiser step a batch.

    Args:
        fabric: Device and precision.
        optimizer: Over the parameters to train.
        batches: ``steps`` batches; may be lazy, and then sees the parameters as they are by then.
        loss_of: The scalar loss of a batch.
        steps: How many batches there are.
        title: What the progress bar says.
        decay: Whether the learning rate falls to 0 along a cosine.
        after_step: Called after every step.

    Raises:
        FloatingPointError: If the loss is no longer finite.
    """
    schedule = CosineAnnealingLR(optimizer, steps) if decay else None
    with tqdm(batches, desc=title, total=steps, unit="step", dynamic_ncols=True) as progress:
        for step, batch in enumerate(progress):
            with fabric.autocast():
                loss = loss_of(batch)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            if after_step is not None:
                after_step()
            if step % STEPS_BETWEEN_LOSSES == 0 or step + 1 == steps:
                _show_loss(progress, loss.item(), step)


def _show_loss(progress: tqdm, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"{progress.desc}: the loss is {loss} at step {step}")
    progress.set_postfix(loss=f"{loss:.3f}")


def shuffled_batches(indices: Tensor, batch_size: int, steps: int) -> Iterator[Tensor]:
    """Draws ``steps`` full batches, epoch after epoch; what an epoch leaves over opens the next.

    Args:
        indices: ``(n,)`` positions to draw from, at least one.
        batch_size: May be larger than n.
        steps: How many batches to draw.

    Yields:
        Positions ``(batch_size,)``, by torch's global generator.
    """
    waiting = indices[:0]
    for _ in range(steps):
        while len(waiting) < batch_size:
            order = torch.randperm(len(indices)).to(indices.device)
            waiting = torch.cat([waiting, indices[order]])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def class_balanced_batches(labels: Tensor, batch_size: int, steps: int) -> Iterator[Tensor]:
    """Draws batches in which every class that has a label is as likely as any other.

    Args:
        labels: int64 ``(N,)``, -1 for none; at least one is not.
        batch_size: Samples a batch, drawn with replacement.
        steps: How many batches to draw.

    Yields:
        Positions ``(batch_size,)`` of labelled samples, by torch's global generator.
    """
    labelled = labels >= 0
    share = 1 / labels[labelled].bincount()
    weights = torch.where(labelled, share[labels.clamp(min=0)], 0.0).cpu()
    for _ in range(steps):
        yield torch.multinomial(weights, batch_size, replacement=True).to(labels.device)


@torch.no_grad()
def in_eval_mode(
    fabric: Fabric,
    network: nn.Module,
    images: Tensor,
    view: nn.Module | None = None,
    *,
    batch_size: int = 1024,
) -> Tensor:
    """What a network says of every image: BatchNorm by its running statistics, no gradient.

    Args:
        fabric: Device and precision.
        network: Left in the mode it came in.
        images: ``(N, ...)``.
        view: Applied to each batch of images first; None for none.
        batch_size: Changes the memory, and which random view a sample gets.

    Returns:
        float32, the outputs of all batches joined along their first axis.
    """
    was_training = network.training
    network.eval()
    with fabric.autocast():
        outputs = [
            network(batch if view is None else view(batch)).float()
            for batch in images.split(batch_size)
        ]
    network.train(was_training)
    return torch.cat(outputs)
