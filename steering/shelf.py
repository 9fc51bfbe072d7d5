"""Owns where packs are looked for: folders in an order, and in each the one pack that fits a concept and a host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import PackError, PackNotFound
from .fingerprint import Fingerprint
from .host import Host
from .packs import Pack, read_header

__all__ = ["find_pack", "pack_file", "pack_roots"]


def pack_file(concept: str) -> str:
    """The file name of a concept's pack: `character/pip` stands in `character-pip.safetensors`."""
    return concept.replace("/", "-") + ".safetensors"


def pack_roots(host: Host, extra: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """The folders to search, in order: `extra`, `reference/packs/<model>`, `steering/published`.

    The service passes what PALIMPSEST_PACKS names as `extra`; nothing here reads the environment.
    """
    rooms = Path(__file__).resolve().parent.parent
    return (*map(Path, extra), rooms / "reference" / "packs" / host.name, rooms / "steering" / "published")


def find_pack(concept: str, host: Host, roots: Sequence[str | Path]) -> Pack:
    """The pack for a concept on a host, from the first of `roots` that has one made for it. Sub-folders count.

    Raises: PackNotFound, saying which packs for the concept were there and why they do not fit; PackError, naming
    both, when one root has two; BadPack, for a file that is none (a damaged pack is never passed over in silence).
    """
    unfit: list[str] = []
    for root in map(Path, roots):
        fit: list[Path] = []
        for path in sorted(root.rglob("*.safetensors")) if root.is_dir() else []:
            header = read_header(path)
            if header.get("concept") != concept:
                continue
            different = Fingerprint.from_json(header["host"]).differences(host.fingerprint)
            if different:
                unfit.append(f"`{path}`: {'; '.join(different)}")
            else:
                fit.append(path)
        if len(fit) > 1:
            raise PackError(f"two packs for `{concept}` on host `{host.name}`: `{fit[0]}` and `{fit[1]}`; remove one")
        if fit:
            return Pack.load(fit[0], host=host)
    why = "; not made for it: " + ", ".join(unfit) if unfit else ""
    searched = ", ".join(f"`{root}`" for root in roots) or "nowhere"
    raise PackNotFound(f"no pack for `{concept}` on host `{host.name}`; searched {searched}{why}")
