"""Writes policies as YAML that the loader reads as the same policy."""

from __future__ import annotations

from policies.format.model import PolicyModel
from policies.format.strict_yaml import dump_yaml

__all__ = ["dump_policy"]


def dump_policy(policy: PolicyModel) -> str:
    """The YAML text of `policy`, without comments and without fields that were left out."""
    return dump_yaml(policy.model_dump(by_alias=True, exclude_unset=True))
