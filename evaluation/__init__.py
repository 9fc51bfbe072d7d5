"""How well it works: prompt sets, readers, baselines and tables; the only place where quality tables are made."""

import palimpsest_torchvision

palimpsest_torchvision.install()

__all__: list[str] = []
