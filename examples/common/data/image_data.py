"""A data set as plain tensors.

The ground truth is a field of its own, so that a training function, which is only ever handed
`images`, cannot see it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class ImageData(NamedTuple):
    """A data set.

    Attributes:
        name: What tables and run folders call it.
        images: uint8 ``(N, C, H, W)``; in memory, or a file that is mapped into it. To be read by
            ``images[batch]``, never to be written to.
        num_classes: K, the number of clusters to find.
        truth: int64 ``(N,)`` for the metrics alone, or None where nobody knows it.
        held_out: What the networks are only evaluated on, under the split protocol.
        unlabelled: uint8 ``(M, C, H, W)``, more images for representation learning alone.
        class_names: What the numbers in ``truth`` stand for; empty where there are no names.
        files: Where each of the N images comes from; empty unless each is a file of its own.
    """

    name: str
    images: Tensor
    num_classes: int
    truth: Tensor | None
    held_out: ImageData | None = None
    unlabelled: Tensor | None = None
    class_names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def without_truth(self) -> ImageData:
        """What may be shown to training: no truth, no names of classes or files, which tell it."""
        return self._replace(
            truth=None,
            class_names=(),
            files=(),
            held_out=self.held_out and self.held_out.without_truth(),
        )
