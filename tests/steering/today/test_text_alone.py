"""Places that only text passes: refiners and text blocks before the picture, the ways in of single encoders, and means
of text that enter the timestep modulation. Each is a site of its own.

| law | mutation that turned it red |
|---|---|
| each site alone changes its picture and no other | Llama's projections left out of HiDream's record |
| a way in carries its encoder's text and nothing else | masks of glyphs left with their row |
| recorded donors are rows of the batch | what goes beside a site not recorded; the donor's prompt template dropped |
| static donors are rows of the batch, and add none | the donor's mask left out of the static row |
| a donor that a static site has no room or no mask for is refused | `_check_shown` left out |
| a pooled mean is the donor's | hidden tokens counted in the mean |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from steering.attach import before
from tests.steering.family_cases import PINK, RED, Asked, apart
from tests.steering.today import zoo

HUNYUAN = ("hunyuan-image", "hunyuan-video", "hunyuan-video15")
STATIC = ("lumina2", "z-image")
NAMES = (*STATIC, *HUNYUAN, "bria-fibo", "flux3", "hidream", "kandinsky5", "krea2")
LONGEST = ("bria-fibo", "kandinsky5")  # texts are as long as the longest of a call, and so are recorded donors
ALIKE = "a new star"  # as many tokens as RED
LONG = 'pink "moon" over a wide and quiet sea'  # more than 32 tokens, so that Z-Image pads it to 64
ROOM = {"max_sequence_length": 64}

every = pytest.mark.parametrize("name", NAMES)


@cache
def asked(name: str) -> Asked:
    return Asked(name, zoo.build(name), call=zoo.CALL[name], self_test=False)


@pytest.fixture
def it(name: str) -> Asked:
    return asked(name)


def alone(it: Asked) -> tuple[str, ...]:
    """The sites that only text passes, which come before all others."""
    found = tuple(site.name for site in it.host.sites if site.kind == "text")
    assert it.names[: len(found)] == found
    return found


@every
def test_each_site_alone_changes_its_picture_and_no_other(it: Asked) -> None:
    from steering import Window

    sites = alone(it)
    plans = [it.swap(PINK, (site,), pooled="keep") for site in sites]
    early = it.swap(PINK, sites, pooled="keep", window=Window(0, 1 / 3))
    never = it.swap(PINK, sites, pooled="keep", window=Window(0.5, 0.5))
    prompts = [*[RED] * (len(plans) + 2), PINK, RED]
    stock = it.stock(it.beside(prompts, PINK))
    out = it.output_of(prompts, [*plans, early, never, None, None])
    for site, picture, own, report in zip(sites, out.images, stock, out.report, strict=False):
        assert apart(picture, own) > it.different, site
        assert report.fired == {site: it.call["num_inference_steps"]}
    assert apart(out.images[len(plans)], stock[0]) > it.different / 10
    for row in (-3, -2, -1):
        assert torch.equal(torch.as_tensor(out.images[row]), stock[: len(prompts)][row])


def _glyphs(kwargs: dict[str, Any]) -> dict[str, Any]:
    both = {name: kwargs[name].clone() for name in ("encoder_hidden_states_2", "encoder_attention_mask_2")}
    for value in both.values():
        value[0] = value[1]
    return both


def _llama(kwargs: dict[str, Any]) -> dict[str, Any]:
    layers = kwargs["encoder_hidden_states_llama3"].clone()
    own = layers.shape[1] // 2  # the uncond rows come first
    layers[1, own] = layers[1, own + 1]
    return {"encoder_hidden_states_llama3": layers}


def _layers(kwargs: dict[str, Any]) -> dict[str, Any]:
    layers = [layer.clone() for layer in kwargs["text_encoder_layers"]]
    own = len(layers[1]) // 2
    layers[1][own] = layers[1][own + 1]
    return {"text_encoder_layers": layers}


@pytest.mark.parametrize(
    ("name", "site", "other"),
    [
        ("hunyuan-image", "context_embedder_2", _glyphs),
        ("hunyuan-video15", "context_embedder_2", _glyphs),
        ("hidream", "caption_projection.1", _llama),
        ("bria-fibo", "caption_projection.1", _layers),
    ],
)
def test_a_way_in_carries_the_text_of_its_encoder_and_nothing_else(
    it: Asked, site: str, other: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    prompts = [RED, PINK]
    with before(it.host.denoiser, lambda module, args, kwargs: (args, kwargs | other(kwargs))):
        given = it.stock(it.beside(prompts, PINK))
    steered = it.steered(prompts, [it.swap(PINK, (site,), pooled="keep"), None])
    assert apart(steered[0], given[0]) < it.tolerance
    assert apart(given[0], it.stock(it.beside(prompts, PINK))[0]) > it.different


@every
def test_a_recorded_donor_is_a_row_of_the_batch_for_every_seed(it: Asked) -> None:
    donor = ALIKE if it.name in LONGEST else PINK
    sites = alone(it)
    twin = it.output_of([RED, donor], [it.swap(donor, sites, pooled="keep"), None])
    recorded = it.output_of([RED, donor], [it.swap(donor, sites, pooled="keep", source="canonical"), None])
    assert apart(recorded.images[0], twin.images[0]) < it.tolerance
    assert apart(recorded.images[0], it.stock([RED, donor])[0]) > it.different / 10
    assert recorded.report[0].extra_rows == 0
    assert recorded.report[0].fired == twin.report[0].fired


@pytest.mark.parametrize("name", STATIC)
def test_a_donor_of_static_text_is_a_row_of_the_batch_and_adds_none(it: Asked) -> None:
    from steering import NotSupported

    sites, rows = alone(it), []
    twin = it.output_of([RED, PINK], [it.swap(PINK, sites, pooled="keep"), None])
    with before(it.host.denoiser, lambda module, args, kwargs: rows.append(1)):
        first = it.output_of([RED, PINK], [it.swap(PINK, sites, pooled="keep", source="text"), None])
        calls = len(rows)
        second = it.output_of([RED, PINK], [it.swap(PINK, sites, pooled="keep", source="text"), None])
        kept = len(rows) - calls
        it.output_of([RED, PINK], [None, None])
        assert (calls, kept) == (len(rows) - calls - kept + 1, len(rows) - calls - kept)
    assert torch.equal(torch.as_tensor(first.images), torch.as_tensor(second.images))
    assert torch.equal(torch.as_tensor(first.images[1]), it.stock([RED, PINK])[1])
    assert apart(first.images[0], twin.images[0]) < it.tolerance
    assert first.report[0].fired == twin.report[0].fired == dict.fromkeys(sites, it.call["num_inference_steps"])
    assert first.report[0].extra_rows == 0
    with pytest.raises(NotSupported, match="source `text` needs a host with cross-attention, or a site of static text"):
        it.steered([RED], [it.swap(PINK, source="text", pooled="keep")])


@pytest.mark.parametrize("name", STATIC)
def test_one_plan_and_one_batch_mix_static_donors_with_others(it: Asked) -> None:
    from steering import Plan

    text = alone(it)
    joint = it.names[len(text) :]
    static = it.swap(PINK, text, pooled="keep", source="text")
    recorded = it.swap(ALIKE, text, pooled="keep", source="canonical")
    both = Plan(*static.interventions, *it.swap(PINK, joint, pooled="keep").interventions)
    prompts = [RED, PINK]
    assert apart(it.steered(prompts, [both, None])[0], it.stock(it.beside(prompts, PINK))[1]) < it.tolerance
    mixed = it.steered([RED, RED, PINK], [static, recorded, None])
    for row, plan in enumerate((static, recorded)):
        own = [plan if n == row else None for n in range(3)]
        assert torch.equal(mixed[row], it.steered([RED, RED, PINK], own)[row])


def test_static_donors_of_several_lengths_are_exact_beside_prompts_that_are_as_long() -> None:
    it = asked("z-image")
    sites = alone(it)
    for prompts, donor in (([RED, LONG], PINK), ([RED, LONG], LONG), ([LONG, LONG, RED], PINK)):
        empty = [None] * (len(prompts) - 1)
        twin = it.steered(prompts, [it.swap(donor, sites, pooled="keep"), *empty], **ROOM)
        text = it.steered(prompts, [it.swap(donor, sites, pooled="keep", source="text"), *empty], **ROOM)
        assert apart(text[0], twin[0]) < it.tolerance
        assert apart(text[0], it.stock(prompts, **ROOM)[0]) > it.different


@pytest.mark.parametrize(
    ("own", "donor", "why"),
    [(RED, LONG, "its prompts have another length"), (LONG, RED, "a donor has hidden tokens at site")],
)
def test_a_static_donor_without_room_or_mask_is_refused(own: str, donor: str, why: str) -> None:
    from steering import BadLayout

    it = asked("z-image")
    plan = it.swap(donor, alone(it), pooled="keep", source="text")
    with pytest.raises(BadLayout, match=f"{why}.*use source `twin`"):
        it.steered([own], [plan], negative_prompts=[own], **ROOM)


@pytest.mark.parametrize("name", HUNYUAN)
def test_the_mean_that_refiners_know_is_a_global_site(it: Asked) -> None:
    site, joint = "context_embedder.time_text_embed", it.names[-1]
    assert site in {s.name for s in it.host.global_sites}
    seen: list[torch.Tensor] = []

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args[0].clone())

    with before(it.host.denoiser.get_submodule(f"{site}.text_embedder"), read):
        it.stock([RED, PINK])
        own, given = seen[0]
        seen.clear()
        kept = it.steered([RED, RED], [it.swap(PINK, (joint,), pooled="keep"), None])
        assert all(torch.equal(rows[0], rows[1]) for rows in seen)
        seen.clear()
        swapped = it.output_of([RED, RED], [it.swap(PINK, (joint,), pooled="donor"), None])
    changed = [rows[0] for rows in seen if not torch.equal(rows[0], rows[1])]
    assert apart(own, given) > it.different / 10
    assert len(changed) == it.call["num_inference_steps"]
    assert all(apart(mean, given) < it.tolerance / 10 for mean in changed)
    assert swapped.report[0].fired[site] == it.call["num_inference_steps"]
    assert torch.equal(torch.as_tensor(swapped.images[1]), torch.as_tensor(kept[1]))
    assert apart(swapped.images[0], kept[0]) > it.tolerance


def test_each_of_two_global_sites_is_edited_at_its_own_width_or_refused() -> None:
    from steering import BadPlan, Edit, Operator, Plan

    it = asked("hunyuan-video")
    stock = it.stock([RED, RED])
    for site in it.host.global_sites:
        unit = torch.nn.functional.normalize(torch.linspace(-1, 1, 16)[None], dim=-1)
        out = it.output_of([RED, RED], [Plan(Edit((site.name,), Operator(unit, unit, 0 * unit, where="pooled"))), None])
        assert out.report[0].fired == {site.name: it.call["num_inference_steps"]}
        assert apart(out.images[0], stock[0]) > it.tolerance
        assert torch.equal(torch.as_tensor(out.images[1]), stock[1])
        wrong = torch.ones(1, 7)
        with pytest.raises(BadPlan, match="operator must be 16 wide for pooled text here, got 7"):
            it.steered([RED], [Plan(Edit((site.name,), Operator(wrong, wrong, wrong, where="pooled")))])


def test_what_such_a_site_does_not_have_is_refused_with_the_reason() -> None:
    from steering import BadPlan, Edit, NotSupported, Operator, Plan

    it = asked("z-image")
    site, unit = alone(it)[0], torch.ones(1, 32)
    with pytest.raises(NotSupported, match="mode `pinned` shows sites that read the picture"):
        it.steered([RED], [it.swap(PINK, (site,), pooled="keep", mode="pinned")])
    with pytest.raises(BadPlan, match="gives text alone, so its `output` cannot be edited"):
        it.steered([RED], [Plan(Edit((site,), Operator(unit, unit, unit, where="output")))])


@pytest.mark.parametrize("name", ["z-image", "hidream"])
def test_the_text_that_goes_on_is_edited_and_its_row_alone_changes(it: Asked) -> None:
    from steering import Edit, Operator, Plan

    stock = it.stock([RED, RED])
    for place in it.host.prepared.sites[: len(alone(it))]:
        unit = torch.nn.functional.normalize(torch.linspace(-1, 1, place.context_width)[None], dim=-1)
        plan = Plan(Edit((place.name,), Operator(unit, unit, 0 * unit, where="context")))
        out = it.output_of([RED, RED], [plan, None])
        assert apart(out.images[0], stock[0]) > it.tolerance
        assert torch.equal(torch.as_tensor(out.images[1]), stock[1])
