"""Negative prompts of other lengths than the prompts': steered cond rows, in one denoiser call with them or in another.

| law | mutation that turned it red |
|---|---|
| empty negative prompts are given | left out |
| all sites = donor, beside negative prompts | the call of uncond rows read with the donors of the cond call |
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, RED, Asked, apart
from tests.steering.today import zoo

NEGATIVES = ["blurry", "an ugly thing", "blurry"]
_STRONG = {"qwen-image": "true_cfg_scale", "qwen-image-21": "true_cfg_scale"}
NAMES = (
    *_STRONG,
    *("longcat", "z-image", "lumina2", "ernie-image", "krea2"),
    *("flux3", "chroma", "aura-flow", "ovis", "bria-fibo"),
)


@cache
def asked(name: str) -> Asked:
    """The tiny host of a family, built once."""
    return Asked(name, zoo.build(name), call=zoo.CALL[name], self_test=False)  # `today/test_laws` has tried them


def guided(it: Asked) -> dict[str, float]:
    """What turns guidance on, where the small call has none."""
    return {_STRONG[it.name]: 3.0} if it.name in _STRONG else {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.law("all sites = donor, beside negative prompts")
def test_all_sites_are_the_donor_beside_negative_prompts(name: str) -> None:
    it = asked(name)
    assert "negative_prompt" in inspect.signature(it.pipe.__call__).parameters
    prompts = [RED, GREEN, RED]
    stock, other = plain(it, prompts, NEGATIVES), plain(it, prompts, ["x"] * 3)
    assert apart(stock[0], other[0]) > it.different
    donor = plain(it, [GREEN] * 3, NEGATIVES)[2]
    mixed = steered(it, prompts, [None, None, it.swap(GREEN)])
    assert torch.equal(mixed[0], stock[0])
    assert torch.equal(mixed[1], stock[1])
    assert apart(mixed[2], donor) < it.tolerance
    assert apart(donor, stock[0]) > it.different


def test_empty_negative_prompts_are_given_to_a_pipeline_that_needs_them() -> None:
    it = asked("longcat")
    stock = it.stock([RED, GREEN])
    assert apart(it.stock([RED, GREEN], guidance_scale=1.0), stock) > it.different
    assert torch.equal(it.stock([RED, GREEN], negative_prompt=["", ""]), stock)
    shape = it.stock(it.beside([RED, GREEN], RED))
    assert torch.equal(it.steered([RED, GREEN], [it.swap(RED), None])[1], shape[1])


def test_static_donors_are_for_rows_whose_text_is_as_long() -> None:
    from steering import NotSupported

    it = asked("qwen-image-21")
    for rows in ("uncond", "both"):
        with pytest.raises(NotSupported, match=r"uncond text of this call is longer or shorter .* use rows `cond`"):
            steered(it, [RED] * 3, [it.swap(GREEN, rows=rows), None, None])


def plain(it: Asked, prompts: list[str], negatives: list[str]) -> torch.Tensor:
    """What the pipeline itself gives in the shape of a steered call. Z-Image writes into the lists that it is given."""
    given = [*negatives, *negatives[2:] * it.joint]
    return it.stock(it.beside(prompts, GREEN), negative_prompt=given, **guided(it))


def steered(it: Asked, prompts: list[str], plans: list[Any]) -> torch.Tensor:
    """What `Host.generate` gives for prompts of one seed beside the negative prompts."""
    options = it.options(len(prompts), **guided(it))
    given = it.host.generate(prompts, plans=plans, seeds=[7] * len(prompts), negative_prompts=NEGATIVES, **options)
    return torch.as_tensor(given.images)
