"""Near names in errors."""

from __future__ import annotations

from palimpsest_base.suggest import did_you_mean, nearest


def test_a_typing_mistake_is_told_the_name_that_was_meant() -> None:
    assert did_you_mean("toxc", ["toxic", "benign"]) == "; did you mean `toxic`?"


def test_what_is_like_nothing_is_told_all_names_or_none() -> None:
    assert did_you_mean("zzz", ["toxic", "benign"]) == "; known: `toxic`, `benign`"
    assert did_you_mean("zzz", ["toxic", "benign"], list_all=False) == ""
    assert did_you_mean("zzz", []) == ""


def test_the_nearest_name_may_be_asked_for_however_unlike_it_is() -> None:
    assert nearest("blocks.3", ["transformer_blocks.3.attn2"], alike=0.0) == "transformer_blocks.3.attn2"
    assert nearest("q", ["toxic"]) is None
