"""Self-labelling as in SCAN's third step: a network that clusters learns its own good labels.

    python examples/plug_in/scan_before.py
    python examples/plug_in/scan_after.py

The first has the shape of SCAN's published code, written anew: confident predictions of weak views
label strong ones. The second is the same loop, where labels count that the neighbours confirm.
"""

from __future__ import annotations

import sys

import torch
from given import Network, digits, predict, strong, weak
from scan_parts import ConfidenceCrossEntropy, clustered, mined
from torch import Tensor

from pseudolabel import clustering_accuracy


def self_label(model: Network, images: Tensor, criterion: torch.nn.Module, epochs: int) -> None:
    """Trains a network that clusters, on its own labels."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(256):
            with torch.no_grad():
                weak_logits = model(weak(images[batch]))
            strong_logits = model(strong(images[batch]))
            loss = criterion(weak_logits, strong_logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(seed: int = 0, epochs: int = 15) -> dict[str, float]:
    """Clustering accuracy where self-labelling starts, and where it ends."""
    torch.manual_seed(seed)
    images, truth = digits()
    neighbors = mined(images)
    model = clustered(images, neighbors)
    start = clustering_accuracy(predict(model, images).argmax(1), truth)
    self_label(model, images, ConfidenceCrossEntropy(threshold=0.99), epochs)
    return {"start": start, "end": clustering_accuracy(predict(model, images).argmax(1), truth)}


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
