"""Discovery finds every site of the denoisers that people serve today, at the sizes that diffusers builds by default.

The denoisers stand on the meta device, without weights. Those whose defaults are not a released size are left out.
`millions` and `sites` are data, and the sites are checked against the layers of the constructor as well.

| mutation | turns red |
|---|---|
| Z-Image's refiners of text left out | the sites of Z-Image |
| FLUX.2's rule of single blocks left out | the sites of FLUX.2 |
| the columns of a fused projection forgotten | the width of FLUX.2 and of PRX |
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

_TWO_KINDS = ("num_layers", "num_single_layers")


@dataclass(frozen=True, slots=True)
class Default:
    """A denoiser as its class builds it: its size, its sites, the constructor's arguments that number these, how wide
    the keys of text are at each site that the picture passes, and how many sites only text passes."""

    pipeline: str
    millions: float
    sites: int
    width: int
    layers: tuple[str, ...] = ("num_layers",)
    text: int = 0


DEFAULTS = (
    Default("AuraFlowPipeline", 6833.4, 36, 3072, ("num_mmdit_layers", "num_single_dit_layers")),
    Default("ChromaPipeline", 8900.0, 57, 3072, _TWO_KINDS),
    Default("Flux2Pipeline", 32223.3, 56, 6144, _TWO_KINDS),
    Default("HunyuanImagePipeline", 17411.2, 60, 3584, _TWO_KINDS, 2),
    Default("HunyuanVideoPipeline", 12821.0, 60, 3072, _TWO_KINDS, 2),
    Default("Kandinsky5T2VPipeline", 2147.3, 32, 2048, ("num_visual_blocks",), 2),
    Default("Krea2Pipeline", 12820.1, 28, 1536, text=2),
    Default("LTXPipeline", 1923.4, 28, 2048),
    Default("Lumina2Pipeline", 2606.8, 26, 768, text=2),
    Default("OvisImagePipeline", 7370.4, 33, 3072, _TWO_KINDS),
    Default("PRXPipeline", 1170.7, 16, 1792, ("depth",)),
    Default("QwenImage21Pipeline", 7115.1, 32, 4096),
    Default("QwenImagePipeline", 20430.4, 60, 3072),
    Default("WanPipeline", 14288.5, 40, 5120),
    Default("ZImagePipeline", 6154.9, 30, 3840, ("n_layers",), 2),
)


def on_meta(name: str) -> nn.Module:
    """A denoiser of the class with the constructor's defaults, without weights."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, name)()


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda default: default.pipeline)
def test_at_the_default_size_a_denoiser_has_its_known_sites(default: Default) -> None:
    from steering.families.discovery import find_sites
    from steering.families.table import family_of

    family = family_of(default.pipeline)
    denoiser = on_meta(family.denoiser_class)
    assert sum(p.numel() for p in denoiser.parameters()) / 1e6 == pytest.approx(default.millions, rel=0.01)
    found = find_sites(family, denoiser)
    assert len({placed.site.name for placed in found}) == len(found) == default.sites + default.text
    assert sum(denoiser.config[argument] for argument in default.layers) == default.sites
    alone = [placed for placed in found if placed.site.kind == "text"]
    assert len(alone) == default.text
    for placed in (p for p in found if p not in alone):
        for module, span in placed.readers().values():
            first, end = span.columns or (0, module.out_features)
            assert end - first == default.width, placed.site.name
