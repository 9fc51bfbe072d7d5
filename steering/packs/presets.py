"""Gives the published presets as packs, and writes them: `python -m steering.packs.presets [FOLDER]`.

The files in `published` are what this writes, byte for byte; a test compares them. To change a preset, change
`preset_table` and run the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

from steering.families.fingerprint import Likeness
from steering.packs.pack import Pack
from steering.packs.preset_table import PRESETS, Preset

__all__ = ["to_pack", "write"]

_FOLDER = Path(__file__).resolve().parent.parent / "published"


def to_pack(preset: Preset) -> Pack:
    """The pack of a preset."""
    on = preset.on
    return Pack(
        concept=preset.concept,
        host=Likeness(on.pipeline, on.denoiser, on.facts),
        sites=tuple(on.sites[i] for i in preset.sites),
        wider=tuple(on.sites[i] for i in preset.wider),
        site_names=on.sites,
        window=preset.window,
        pooled=on.pooled,
        source=on.source,
        phrases=preset.phrases,
        neutral=preset.neutral,
        evidence={"kind": "published", "checkpoint": on.name, **preset.evidence},
        versions={"presets": "1"},
    )


def write(folder: Path = _FOLDER) -> list[Path]:
    """The files of all presets, written anew."""
    return [to_pack(preset).save(folder / f"{preset.file}.safetensors") for preset in PRESETS]


if __name__ == "__main__":
    for written in write(*map(Path, sys.argv[1:2])):
        print(written.name)
