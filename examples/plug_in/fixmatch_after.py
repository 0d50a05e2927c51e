"""FixMatch in semilearn's shape: an algorithm registers hooks, and its step calls them.

    python examples/plug_in/fixmatch_before.py
    python examples/plug_in/fixmatch_after.py

The first has the shape of the USB code base, written anew, with a fixed threshold. The second is
the same algorithm with a threshold that follows the model's own confidence.
"""

from __future__ import annotations

import sys

import torch
from given import digits
from semilearn_parts import (
    AlgorithmBase,
    PseudoLabelingHook,
    accuracy,
    consistency_of,
    split,
)
from torch import Tensor
from torch.nn.functional import cross_entropy

from pseudolabel import SelfAdaptiveThreshold


class FixMatch(AlgorithmBase):
    """Weak views label strong ones where they are confident."""

    def set_hooks(self) -> None:
        """How images are labelled, and which labels count."""
        self.register_hook(PseudoLabelingHook(), "PseudoLabelingHook")
        self.register_hook(SelfAdaptiveThreshold(self.num_classes, momentum=0.99), "MaskingHook")

    def train_step(self, x_lb: Tensor, y_lb: Tensor, x_ulb_w: Tensor, x_ulb_s: Tensor) -> Tensor:
        """Supervised loss and consistency."""
        count = len(x_lb)
        logits = self.model(torch.cat([x_lb, x_ulb_w, x_ulb_s]))
        logits_lb, (logits_w, logits_s) = logits[:count], logits[count:].chunk(2)
        probs = logits_w.detach().softmax(1)
        mask = self.hooks["MaskingHook"](probs).weights
        labels = self.call_hook("label", "PseudoLabelingHook", probs)
        self.kept.append(mask.mean().item())
        return cross_entropy(logits_lb, y_lb) + consistency_of(logits_s, labels, mask)


def main(
    seed: int = 0, steps: int = 150, labelled: int = 2, algorithm: type[FixMatch] = FixMatch
) -> dict[str, float]:
    """Accuracy on held-out images, and the share of pseudo-labels that counted."""
    torch.manual_seed(seed)
    train, test = split(*digits(), labelled)
    trainer = algorithm(num_classes=10)
    model = trainer.train(*train, steps)
    return {"accuracy": accuracy(model, *test), "kept": sum(trainer.kept) / steps}


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
