"""Policies back as text: what the loader reads as the same policy again."""

from __future__ import annotations

from policies.format.model import PolicyModel
from policies.format.strict_yaml import dump_yaml

__all__ = ["dump_policy"]


def dump_policy(policy: PolicyModel) -> str:
    """The YAML text of `policy`: what was written in it, without comments and without defaults."""
    return dump_yaml(policy.model_dump(by_alias=True, exclude_unset=True))
