"""Says what prompts and pictures contain: detectors turn them into signals, and judge nothing."""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
