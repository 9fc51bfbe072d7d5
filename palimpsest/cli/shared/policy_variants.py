"""Variants of policies for `evaluate attack`: the same rules, trusting the prompt, or looking at pictures and sites."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectors.text import sense
from palimpsest.cli.shared.policy_files import existing
from policies import Loader
from policies.format.strict_yaml import dump_yaml
from policies.store.document import Document

__all__ = ["VARIANTS", "policy_variant", "verified_reads"]

Rule = dict[str, Any]


def _watching(watch: str, *, sentinel: bool = False) -> Callable[[Rule], Rule]:
    """Lets the rules that verify a picture watch it so; with `sentinel` those about a concept are also woken by the
    probe at its pack's sites."""

    def change(rule: Rule) -> Rule:
        reads = [action["read"] for action in rule["then"] if action["do"] == "verify"]
        if not reads:
            return rule
        told = [{"sentinel": {"name": name, "at_least": 0.5}} for name in reads if sentinel and "/" in name]
        return {**rule, "watch": watch, **({"when": {"any": [rule["when"], *told]}} if told else {})}

    return change


# row -> what it makes of a rule
VARIANTS: Mapping[str, Callable[[Rule], Rule]] = {
    "prompt rules only": _watching("matched-prompts"),
    "picture looked at": _watching("every-picture"),
    "sentinel": _watching("matched-prompts", sentinel=True),
    "all": _watching("every-picture", sentinel=True),
}


@contextmanager
def policy_variant(policies: Sequence[str], row: str) -> Iterator[str]:
    """A folder with the policies, their rules changed as the row of `VARIANTS` says; gone afterwards. An empty row
    changes nothing.

    The tests inside the policies are left out: they are about the rules as they were written.

    Raises:
        PolicyError: the policies are not valid.
    """
    with tempfile.TemporaryDirectory(prefix="palimpsest-attack-") as folder:
        for document in _documents(policies):
            for name, content in document.files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            assert document.model is not None  # INVARIANT: `Loader.parse` raises for a document without
            policy = document.model.model_dump(by_alias=True, exclude_unset=True, exclude={"tests"})
            policy["rules"] = [VARIANTS[row](rule) if row else rule for rule in policy["rules"]]
            (Path(folder) / Path(document.file).name).write_text(dump_yaml(policy), "utf-8")
        yield folder


def verified_reads(policies: Sequence[str]) -> tuple[str, ...]:
    """What the rules verify in pictures, concepts and `lettering`, in the order of the files.

    Raises:
        PolicyError: the policies are not valid.
    """
    rules = [rule for document in _documents(policies) for _, rule in document.rules]
    return tuple(dict.fromkeys(a.read for rule in rules for a in rule.then if a.do == "verify"))


def _documents(policies: Sequence[str]) -> tuple[Document, ...]:
    return Loader(sense).parse([path for each in policies for path in existing(each)])
