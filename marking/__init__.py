"""Marks that say where a picture comes from: signed C2PA credentials in its file, and a watermark in its pixels."""

from marking.loading import load_watermark
from marking.watermark import BUILT_IN, NotMarked, Watermark

__all__ = ["BUILT_IN", "NotMarked", "Watermark", "load_watermark"]
