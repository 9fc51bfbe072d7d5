"""Which sites of a host carry a concept, how few are enough, and with what evidence."""

import palimpsest_torchvision

palimpsest_torchvision.install()

__all__: list[str] = []
