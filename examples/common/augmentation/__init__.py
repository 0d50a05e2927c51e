"""Views of images, random for each sample: `views_for` a data set."""

from common.augmentation.recipes import (
    colour_views,
    digit_views,
    fashion_mnist_views,
    grey_views,
    views_for,
)
from common.augmentation.view import View, Views

__all__ = [
    "View",
    "Views",
    "colour_views",
    "digit_views",
    "fashion_mnist_views",
    "grey_views",
    "views_for",
]
