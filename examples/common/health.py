"""What can be said of clusters without ground truth, while they are trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from common.journal import Stage
from common.ranks import rank

DYING = 0.1
"""A cluster dies when it falls below this share of the size of a mean one."""


class Health:
    """Cluster sizes, confidence and entropy of the predictions that a stage trains on.

    Every cluster that dies is named once, when it does.

    Args:
        stage: Which is told.
        num_classes: K.
    """

    def __init__(self, stage: Stage, num_classes: int) -> None:
        self.stage, self.num_classes = stage, num_classes
        self._alive: Tensor | None = None
        self._forget()

    def _forget(self) -> None:
        self._sizes: Tensor | None = None
        self._mean_probs: Tensor | None = None
        self._confidence: Tensor | None = None
        self._batches = 0

    @torch.no_grad()
    def see(self, logits: Tensor) -> None:
        """Counts the predictions of a batch ``(*heads, B, K)``; waits for no device."""
        probs = logits.detach().float().softmax(-1)
        confidence, clusters = probs.max(-1)
        sizes = torch.zeros_like(probs[..., 0, :])
        sizes.scatter_add_(-1, clusters, torch.ones_like(confidence))
        seen = (sizes / probs.shape[-2], probs.mean(-2), confidence.mean(-1))
        if self._batches:
            seen = (self._sizes + seen[0], self._mean_probs + seen[1], self._confidence + seen[2])
        self._sizes, self._mean_probs, self._confidence = seen
        self._batches += 1

    def tell(self, step: int, **more: float | Tensor) -> None:
        """Tells the stage what was seen since it was told last, the mean over heads.

        Args:
            step: How many steps the stage has taken.
            more: Numbers to tell with it.
        """
        if not self._batches:
            return
        sizes, mean_probs = self._sizes / self._batches, self._mean_probs / self._batches
        entropy = torch.special.entr(mean_probs).sum(-1) / math.log(max(2, self.num_classes))
        self.stage.tell(
            step,
            entropy=entropy.mean(),
            confidence=(self._confidence / self._batches).mean(),
            smallest_cluster=sizes.amin(-1).mean(),
            largest_cluster=sizes.amax(-1).mean(),
            **more,
        )
        self._name_the_dying(step, sizes.view(-1, self.num_classes))
        self._forget()

    def _name_the_dying(self, step: int, sizes: Tensor) -> None:
        alive = sizes >= DYING / self.num_classes
        was = alive if self._alive is None else self._alive
        for head, cluster in (was & ~alive).nonzero().tolist():
            if rank() == 0:
                of_head = f"head {head}, " if len(sizes) > 1 else ""
                share = float(sizes[head, cluster])
                tqdm.write(
                    f"{self.stage.title.strip()}, step {step}: {of_head}cluster {cluster} is "
                    f"dying, with {share:.2%} of the images"
                )
        self._alive = alive
