"""The packs behind the rules of a policy on the loaded model: the rule table at start, and the reasons to refuse a
policy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference.folders import packs_of
from service.engine.planner import why_unverified
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from policies import Snapshot
    from service.engine.adapters import Adapter
    from steering import Host, HostFacts, Pack

__all__ = ["PackIndex", "RuleRow", "extra_packs", "rule_table", "unmet"]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One row of the rule table: which pictures a rule looks at, what it steers, and with which pack on this host."""

    rule: str
    policy: str
    mode: str
    watch: str
    concept: str | None = None
    pack: str | None = None
    evidence: str | None = None
    unfit: str | None = None
    why_unfit: str | None = None
    unfit_with: tuple[str, ...] = ()  # adapters with which it is unfit, at their default scales

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        return asdict(self)


class PackIndex(Mapping[str, "Pack"]):
    """The packs of one host by concept. A pack is loaded on first use; the reason for a missing pack is kept, too.

    Thread-safe.
    """

    def __init__(self, host: Host | HostFacts, extra: Sequence[Path]) -> None:
        from steering import pack_roots

        self._host = host
        self._roots = pack_roots([*extra, packs_of(host.name)])
        self._known: dict[str, Pack | str] = {}  # the pack, or why there is none

    def __getitem__(self, concept: str) -> Pack:
        found = self._find(concept)
        if isinstance(found, str):
            raise KeyError(concept)
        return found

    def __contains__(self, concept: object) -> bool:
        return self.why_missing(str(concept)) is None

    def __iter__(self) -> Iterator[str]:
        return (concept for concept, found in list(self._known.items()) if not isinstance(found, str))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def why_missing(self, concept: str) -> str | None:
        """Why there is no pack for `concept`, or None."""
        found = self._find(concept)
        return found if isinstance(found, str) else None

    def why_missing_now(self, concept: str) -> str | None:
        """Like `why_missing`, but also finds packs that were added since the last lookup."""
        self.look_again()
        return self.why_missing(concept)

    def concepts(self) -> list[str]:
        """The concepts, or categories such as `person/*`, of which the folders have a pack for this host."""
        from steering import PackError
        from steering.packs.pack import read_header

        found: set[str] = set()
        for root in self._roots:
            for path in root.rglob("*.safetensors") if root.is_dir() else ():
                with contextlib.suppress(PackError):  # it is not a pack; who asks for its concept is told
                    found.add(str(read_header(path)["concept"]))
        return sorted(concept for concept in found if self.why_missing(concept) is None)

    def look_again(self) -> None:
        """Forgets missing and published packs, because a changed policy may come with a new pack."""
        known = list(self._known.items())
        self._known = {name: found for name, found in known if not isinstance(found, str) and not found.published}

    def _find(self, concept: str) -> Pack | str:
        from steering import PackError, find_pack

        found = self._known.get(concept)
        if found is None:
            try:
                found = find_pack(concept, self._host, self._roots)
            except PackError as error:
                found = str(error)
            self._known[concept] = found
        return found


def extra_packs(settings: Settings) -> list[Path]:
    """The folder of the setting `packs`, if there is one. Raises `SettingsError` for one that does not exist."""
    if settings.packs is not None and not settings.packs.is_dir():
        raise SettingsError(f"`packs` must be a folder, got `{settings.packs}`, which does not exist or is a file")
    return [settings.packs] if settings.packs is not None else []


def rule_table(snapshot: Snapshot, packs: PackIndex, adapters: Iterable[Adapter] = ()) -> tuple[RuleRow, ...]:
    """One row per rule and concept that it steers. A rule that steers nothing has one row without a concept."""
    offered = tuple(adapters)
    rows = []
    for rule in snapshot.rules:
        bare = RuleRow(rule.id, rule.policy, rule.model.rollout.mode, rule.watch)
        concepts = dict.fromkeys(a.concept for a in rule.model.then if a.do == "steer")
        reads = {a.read for a in rule.model.then if a.do == "verify"}
        rows += [_supported(bare, concept, rule.model.unfit, reads, packs, offered) for concept in concepts] or [bare]
    return tuple(rows)


def _supported(
    row: RuleRow, concept: str, unfit: str, reads: Collection[str], packs: PackIndex, adapters: Sequence[Adapter]
) -> RuleRow:
    """The row with the pack that steers `concept` on this host, or with the reason why there is none."""
    row = replace(row, concept=concept, unfit_with=tuple(each.lora.name for each in adapters))
    why = packs.why_missing(concept)
    if why is not None:
        return replace(row, unfit=unfit, why_unfit=why)
    pack = packs[concept]
    sites = f"{len(pack.sites)} of {len(pack.site_names)} sites"
    row = replace(row, pack=sites, evidence=str(pack.evidence.get("kind", "none")))
    why = why_unverified(pack, reads)
    if why is None:
        row = replace(row, unfit_with=tuple(a.lora.name for a in adapters if why_unverified(pack, reads, a)))
    return row if why is None else replace(row, unfit=unfit, why_unfit=why)


def _why_silent(concept: str, packs: PackIndex) -> str | None:
    """Why no sentinel tells `concept` on this host, or None."""
    why = packs.why_missing(concept)
    if why is not None:
        return why
    if packs[concept].sentinel is not None:
        return None
    return "its pack has none; make one with `palimpsest fit-sentinel`"


def unmet(packs: PackIndex, snapshot: Snapshot) -> list[str]:
    """The reasons why a worker with these packs must refuse a snapshot."""
    packs.look_again()
    silent = [
        f"the rules ask the sentinel of `{concept}`, and {why}"
        for concept in sorted(snapshot.sentinels)
        if (why := _why_silent(concept, packs)) is not None
    ]
    return silent + [
        f"rule `{row.rule}` refuses to load: no pack of `{row.concept}` that it may use: {row.why_unfit}"
        for row in rule_table(snapshot, packs)
        if row.unfit == "refuse-load" and row.mode != "disabled"
    ]
