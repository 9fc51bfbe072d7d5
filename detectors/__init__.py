"""Detectors turn prompts and pictures into signals that say what they contain; they decide nothing."""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
