"""Finds packs: folders in an order, and in each the one pack that fits a concept and a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from steering.errors import BadPack, PackError, PackMismatch, PackNotFound
from steering.families.fingerprint import Fingerprint, HostFacts, Likeness, bound_to, differences
from steering.host import Host
from steering.packs.pack import Pack, read_header, serves

__all__ = ["find_pack", "is_pack", "pack_file", "pack_roots", "published_packs"]

_PUBLISHED = Path(__file__).resolve().parent.parent / "published"


def pack_file(concept: str) -> str:
    """The file name of a concept's pack: `character-pip.safetensors` for `character/pip`."""
    return concept.replace("/", "-") + ".safetensors"


def pack_roots(own: Sequence[str | Path]) -> tuple[Path, ...]:
    """The folders in which `find_pack` searches, in order: the caller's own, then the published packs of this room."""
    return (*map(Path, own), _PUBLISHED)


def published_packs(host: Host) -> dict[str, Pack]:
    """The published packs that are for a host's kind of model, by the names of their files: what papers report of it,
    not confirmed on its weights."""
    fitting: dict[str, Pack] = {}
    for path in sorted(_PUBLISHED.glob("*.safetensors")):
        try:
            fitting[path.stem] = Pack.load(path, host=host)
        except PackMismatch:
            continue
    return fitting


def find_pack(concept: str, host: Host | HostFacts, roots: Sequence[str | Path]) -> Pack:
    """The pack for a concept on a host, from the first of `roots` that has one made for it. Sub-folders count.

    A pack for the concept's whole category serves it where a root has none for the concept itself.

    Raises: PackNotFound, saying which packs for the concept were there and why they do not fit; PackError, naming
    both, when one root has two; BadPack, for a file that is not a pack (a damaged pack is never skipped in silence).
    """
    unfit: list[str] = []
    for root in map(Path, roots):
        own: list[Path] = []
        category: list[Path] = []
        for path in sorted(root.rglob("*.safetensors")) if root.is_dir() else []:
            header = read_header(path)
            theirs = str(header.get("concept"))
            if not serves(theirs, concept):
                continue
            different = differences(_bound(header, path), host)
            if different:
                unfit.append(f"`{path}`: {'; '.join(different)}")
            else:
                (own if theirs == concept else category).append(path)
        fit = own or category
        if len(fit) > 1:
            raise PackError(f"two packs for `{concept}` on host `{host.name}`: `{fit[0]}` and `{fit[1]}`; remove one")
        if fit:
            return Pack.load(fit[0], host=host).about(concept)
    why = "; not made for it: " + ", ".join(unfit) if unfit else ""
    searched = ", ".join(f"`{root}`" for root in roots) or "nowhere"
    raise PackNotFound(f"no pack for `{concept}` on host `{host.name}`; searched {searched}{why}")


def is_pack(path: str | Path) -> bool:
    """Whether a safetensors file is a pack, of any version; a file that cannot be read is none."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return "palimpsest.pack" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _bound(header: Mapping[str, Any], path: Path) -> Fingerprint | Likeness:
    try:
        return bound_to(header["host"])
    except (KeyError, TypeError) as error:
        raise BadPack(f"`{path}` is not a whole pack: {error}") from error
