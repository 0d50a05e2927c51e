"""Thumbnails as data that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 64

Picture = Callable[[int], "Image"]
"""Gives the picture of a row; raises OSError or ValueError where there is none."""


class Thumbnail(NamedTuple):
    """A small picture; empty ``source`` where the picture could not be read.

    Attributes:
        source: A ``data:`` address.
        width: In pixels.
        height: In pixels.
    """

    source: str
    width: int
    height: int


class Thumbnails:
    """Makes the thumbnails that a report shows, each once.

    Args:
        picture: See `Picture`.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._made: dict[int, Thumbnail] = {}

    def __call__(self, row: int) -> Thumbnail:
        """The thumbnail of a row, at most 64 pixels wide and high."""
        if row not in self._made:
            self._made[row] = self._make(row)
        return self._made[row]

    def _make(self, row: int) -> Thumbnail:
        from PIL import Image, ImageOps

        try:
            image = ImageOps.exif_transpose(self._picture(row))
            image.thumbnail((SIDE, SIDE))
            if image.mode not in ("L", "RGB"):
                image = image.convert("RGBA")
                paper = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(paper, image).convert("RGB")
        # A damaged file is the report's to show, not to fail on; Pillow raises many kinds.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return Thumbnail("", SIDE, SIDE)
        buffer = io.BytesIO()
        # Tiny pictures keep every pixel: JPEG would blur them.
        tiny = max(image.size) <= SIDE // 2
        image.save(buffer, "PNG" if tiny else "JPEG", quality=80, optimize=True)
        kind = "png" if tiny else "jpeg"
        text = base64.b64encode(buffer.getvalue()).decode()
        return Thumbnail(f"data:image/{kind};base64,{text}", *image.size)
