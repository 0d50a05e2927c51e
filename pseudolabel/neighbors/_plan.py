"""How large the pieces of a search may be, from a limit on memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from pseudolabel._checks import wrong_value

DEFAULT_MEMORY = 2**31

_TILED_FROM = 2**12  # rows; below, a guess of the k-th score costs more than it saves
_SAMPLE = 2**9  # columns that the k-th score is guessed from, at least
_TILE = 2048  # rows and columns of a product: half of what fits a cache, and fast
_CUDA_TILE = 4 * _TILE  # what a launch costs is then little beside a tile
_TILES = 16  # at least, where there are fewer rows: the tiles on the diagonal are not halved
_SMALLEST_TILE = 128
_WIDE_SCORES = 2**25  # of whole rows at a time
_CACHED_ELEMENTS = 2**21  # 16 MiB in float64
_BYTES_OF_ENTRY = 12  # a kept score and its place
_BYTES_OF_PAIR = 80  # a candidate that is scored in float64 and sorted


class Plan(NamedTuple):
    """Sizes of a search.

    Attributes:
        memory: Bytes to stay within.
        tile: Rows and columns of a tile.
        group: Queries that are swept together, a multiple of ``tile``.
        sample: Columns that the k-th score is guessed from.
        rank: The k-th score is guessed to be that of this rank in the sample.
        room: Kept scores a query, on average, from which they are thinned out.
        crowd: Candidates of one query beyond which they are not listed.
        wide_rows: Queries searched at a time where whole rows of scores are held.
        cached: Whether there is room for copies of the source.
        elements: Of float64 rows multiplied at a time.
    """

    memory: int
    tile: int
    group: int
    sample: int
    rank: int
    room: int
    crowd: int
    wide_rows: int
    cached: bool
    elements: int

    @property
    def by_tiles(self) -> bool:
        """Whether a sweep by tiles pays."""
        return self.rank > 0


def make_plan(
    total: int, asked: int, width: int, k: int, memory: int, device: torch.device
) -> Plan:
    """Sizes that stay within ``memory`` bytes.

    Args:
        total: N, the rows searched in.
        asked: Q, the rows searched for.
        width: D.
        k: How many neighbours.
        memory: Bytes beyond the input and the output.
        device: Where products are taken.
    """
    sample = max(_SAMPLE, min(total // 16, 2**12), total // 64)
    mean = k * sample / total
    rank = math.ceil(mean + 2.5 * math.sqrt(mean) + 1.5)  # 1 in 100 or so has more in the sample
    room = math.ceil(3 * rank * total / sample)
    crowd = max(4 * k + 256, total // 8)
    tiled = total >= _TILED_FROM and asked >= _TILED_FROM // 4 and rank * 8 <= sample

    tile = _CUDA_TILE if device.type == "cuda" else _TILE
    while tile > _TILE // 4 and tile * _TILES > total:
        tile //= 2
    while _tile_bytes(tile, sample, width, room if tiled else k) > memory // 4:
        tile //= 2
        if tile < _SMALLEST_TILE:
            least = 4 * _tile_bytes(_SMALLEST_TILE, sample, width, room if tiled else k)
            wrong_value("memory_limit", f"at least {least} bytes for this k and shape", memory)
    wide = max(1, min(_WIDE_SCORES, memory // 64) // total)
    held = 4 * width + room * _BYTES_OF_ENTRY
    group = max(1, (memory // 2 - sample * 4 * width) // (held * tile)) * tile
    return Plan(
        memory=memory,
        tile=tile,
        group=group if tiled else max(wide, min(asked, tile)),
        sample=sample,
        rank=rank if tiled else 0,
        room=room,
        crowd=crowd,
        wide_rows=wide,
        cached=total * width * 8 <= memory // 4,
        elements=max(width, min(_CACHED_ELEMENTS, memory // 2**10)),
    )


def _tile_bytes(tile: int, sample: int, width: int, candidates: int) -> int:
    """Of a tile's scores and masks, and of its rows' candidates while they are scored."""
    return tile * (max(tile, sample) * 4 + tile * 2 + width * 16 + candidates * _BYTES_OF_PAIR)
