"""The one training loop, and the batches it runs on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from common.journal import Stage, Stateful, mixed
from common.network import encoders_of
from common.ranks import add_gradients, rank, world_size
from common.timing import in_network, spent

Batch = TypeVar("Batch")
OptimizerName = Literal["adam", "adamw", "sgd", "nesterov"]
Schedule = Literal["constant", "cosine", "fixmatch"]

STEPS_BETWEEN_LOSSES = 20  # reading a loss waits for the device
SLOWER = "a smaller learning rate may help"
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def make_optimizer(
    name: OptimizerName,
    module: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    *,
    spare_norms: bool = False,
) -> Optimizer:
    """An optimiser over the parameters of a module.

    Args:
        name: SGD has a momentum of 0.9, ``"nesterov"`` is SGD with Nesterov's.
        module: What to train.
        learning_rate: At the start.
        weight_decay: Of all parameters.
        spare_norms: Whether those of normalisation layers do not decay (FixMatch).
    """
    norms = {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, NORMS)
        for parameter in layer.parameters()
    }
    spared = [p for p in module.parameters() if spare_norms and id(p) in norms]
    others = [p for p in module.parameters() if not (spare_norms and id(p) in norms)]
    groups = [{"params": others}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if name == "adam":
        return Adam(groups, learning_rate, weight_decay=weight_decay)
    if name == "adamw":
        return AdamW(groups, learning_rate, weight_decay=weight_decay)
    return SGD(groups, learning_rate, 0.9, weight_decay=weight_decay, nesterov=name == "nesterov")


def schedule_of(name: Schedule, optimizer: Optimizer, steps: int) -> LambdaLR:
    """A learning rate that stays, falls to 0 along a cosine, or as in FixMatch to about 0.2."""
    turn = {"constant": 0.0, "cosine": math.pi / 2, "fixmatch": 7 * math.pi / 16}[name]
    if name == "cosine":
        return LambdaLR(optimizer, lambda step: math.cos(turn * step / steps) ** 2)
    return LambdaLR(optimizer, lambda step: math.cos(turn * step / steps))


def fit(
    fabric: Fabric,
    stage: Stage,
    state: dict[str, Stateful],
    optimizer: Optimizer,
    batches: Callable[[int], Iterator[Batch]],
    loss_of: Callable[[Batch], Tensor],
    *,
    steps: int,
    stride: int = 1,
    images: int = 0,
    schedule: Schedule = "cosine",
    floor: float = 0.0,
    after_step: Callable[[int], object] | None = None,
) -> None:
    """Takes one optimiser step a batch, from where the stage was left.

    Args:
        fabric: Device and precision.
        stage: Whose loop it is: title, randomness, and where its state is kept.
        state: What the steps change, by name, but for the optimiser.
        optimizer: Over the parameters to train.
        batches: From a step that ``stride`` divides, the batches from there on; lazy, so that each
            sees the parameters as they are by then. What they take to make counts as time outside
            the network.
        loss_of: The scalar loss of a batch.
        steps: How many to take in all.
        stride: Steps from one at which the loop can go on to the next.
        images: How many of them a step takes through the network.
        schedule: Of the learning rate.
        floor: What the loss cannot fall below; told beside it unless it is 0.
        after_step: Called after every step with the number of steps taken.

    Raises:
        FloatingPointError: If the loss is no longer finite.
        Stopped: If the user has asked for it, or the state cannot be kept.
    """
    rate = schedule_of(schedule, optimizer, steps)
    state = {**state, "optimizer": optimizer, "schedule": rate, "spent": spent()}
    first = stage.restore(state)
    finite = torch.ones((), dtype=torch.bool, device=fabric.device)
    encoders = [m for x in state.values() if isinstance(x, nn.Module) for m in encoders_of(x)]
    source = batches(first)
    bar = tqdm(
        desc=stage.title.strip(),
        initial=first,
        total=steps,
        unit="step",
        dynamic_ncols=True,
        disable=rank() > 0,
    )

    def check() -> None:
        if not finite:
            raise FloatingPointError(
                f"{stage.title}: the loss is no longer finite at step {bar.n}; {SLOWER}"
            )

    with bar, stage.stoppable():
        for step in range(first, steps):
            if step % stride == 0:
                if world_size() == 1 or stride > 1 or step % STEPS_BETWEEN_LOSSES == 0:
                    stage.pause(step, state, fabric.device, check)
                stage.draw_anew(step)
            batch = next(source)
            with in_network(fabric.device, images):
                try:
                    with fabric.autocast():
                        loss = loss_of(batch)
                except ValueError as error:  # an operator that was given what is not finite, say
                    check()
                    where = f"{stage.title.strip()}, step {step + 1}"
                    hint = f"; {SLOWER}" if "expected finite" in str(error) else ""
                    raise ValueError(f"{where}: {error}{hint}") from error
                optimizer.zero_grad(set_to_none=True)
                fabric.backward(loss)
                for encoder in encoders:
                    add_gradients(encoder)
                optimizer.step()
            rate.step()
            finite &= loss.detach().isfinite()
            if after_step is not None:
                after_step(step + 1)
            bar.update()
            if step % STEPS_BETWEEN_LOSSES == 0 or step + 1 == steps:
                check()
                value = loss.item()
                above = {"loss_above_floor": value - floor} if floor else {}
                rate_now = optimizer.param_groups[0]["lr"]
                stage.tell(step + 1, loss=value, **above, learning_rate=rate_now)
                bar.set_postfix({name: f"{x:.3g}" for name, x in stage.notes.items()})


def shuffled_batches(
    indices: Tensor, batch_size: int, steps: int, *, seed: int, first: int = 0
) -> Iterator[Tensor]:
    """Draws full batches, epoch after epoch; what an epoch leaves over opens the next.

    Args:
        indices: ``(n,)`` positions to draw from, at least one.
        batch_size: May be larger than n.
        steps: How many batches there are.
        seed: The order of every epoch follows from it and the epoch's number.
        first: The batch to begin with.

    Yields:
        Positions ``(batch_size,)``.
    """

    def shuffled(epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(mixed(seed, epoch))
        return indices[torch.randperm(len(indices), generator=generator).to(indices.device)]

    epoch, over = divmod(first * batch_size, len(indices))
    waiting = shuffled(epoch)[over:]
    for _ in range(first, steps):
        while len(waiting) < batch_size:
            epoch += 1
            waiting = torch.cat([waiting, shuffled(epoch)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def drawn_seed() -> int:
    """A seed drawn by torch's global generator."""
    return int(torch.randint(2**62, ()))


def class_balanced_batches(labels: Tensor, batch_size: int, steps: int) -> Iterator[Tensor]:
    """Draws batches in which every class that has a label is as likely as any other.

    Args:
        labels: int64 ``(N,)``, -1 for none; at least one is not.
        batch_size: Samples a batch, drawn with replacement.
        steps: How many batches to draw.

    Yields:
        Positions ``(batch_size,)`` of labelled samples, by torch's global generator.
    """
    labelled = (labels >= 0).nonzero()[:, 0]
    known = labels[labelled]
    weights = (1 / known.bincount())[known].cpu()
    for _ in range(steps):
        drawn = torch.multinomial(weights, batch_size, replacement=True)
        yield labelled[drawn.to(labelled.device)]


def pick(images: Tensor, positions: Tensor) -> Tensor:
    """Some of the images, on the device of the positions wherever the images are."""
    return images[positions.to(images.device)].to(positions.device, non_blocking=True)


def wide(x: Tensor) -> Tensor:
    """Numbers as exact as the run is, whatever the network computes in."""
    return x.to(torch.get_default_dtype())


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
        images: ``(N, ...)``, on any device.
        view: Applied to each batch of images first; None for none.
        batch_size: Changes the memory, and which random view a sample gets.

    Returns:
        The outputs of all batches joined along their first axis, in the default dtype.
    """
    was_training = network.training
    network.eval()
    outputs = []
    for batch in images.split(batch_size):
        batch = batch.to(fabric.device)
        views = batch if view is None else view(batch)
        with in_network(fabric.device, len(batch)), fabric.autocast():
            outputs.append(wide(network(views)))
    network.train(was_training)
    return torch.cat(outputs)
