"""Says what prompts and pictures contain: detectors turn them into signals, and judge nothing."""

import palimpsest_torchvision

palimpsest_torchvision.install()

__all__: list[str] = []
