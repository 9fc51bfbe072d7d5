"""Variants of policies for `evaluate attack`: the same rules, on the prompt alone or with every picture looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectors.text import sense
from policies import Loader, policy_paths
from policies.format.model import RuleModel
from policies.format.strict_yaml import dump_yaml
from policies.store.document import Document

__all__ = ["VARIANTS", "policy_variant", "verified_reads"]

Rule = dict[str, Any]


def _watching(mode: str) -> Callable[[Rule], Rule]:
    """Lets the rules that verify a picture watch it so."""
    return lambda rule: {**rule, "watch": mode} if any(a["do"] == "verify" for a in rule["then"]) else rule


# row -> what it makes of a rule
VARIANTS: Mapping[str, Callable[[Rule], Rule]] = {"as given": lambda rule: rule}
if "watch" in RuleModel.model_fields:
    VARIANTS = {
        **VARIANTS,
        "prompt rules only": _watching("matched-prompts"),
        "picture looked at": _watching("every-picture"),
    }


@contextmanager
def policy_variant(policies: Sequence[str], row: str) -> Iterator[str]:
    """A folder with the policies, their rules changed as the row says; gone afterwards.

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
            policy["rules"] = [VARIANTS[row](rule) for rule in policy["rules"]]
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
    return Loader(sense).parse([path for each in policies for path in policy_paths(each)])
