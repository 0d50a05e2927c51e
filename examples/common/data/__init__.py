"""Data sets as plain tensors: `load` reads them all; one module a format."""

from common.data.digits import load_digits
from common.data.image_data import ImageData
from common.data.registry import SOURCES, Protocol, load

__all__ = ["SOURCES", "ImageData", "Protocol", "load", "load_digits"]
