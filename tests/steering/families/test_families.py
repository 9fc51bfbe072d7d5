"""The laws of steering on every family: real diffusers pipelines, tiny and jittered, asked with strings.

Every law is stated between pictures a hundred tolerances apart (`Asked.different`). What a law calls stock is the
pipeline itself in the same execution shape: on joint hosts with the donor's row beside the others.

| law | mutation that turned it red |
|---|---|
| neighbours are untouched | identity rows of `src` rolled by one; cond and uncond exchanged in `Layout.rows` |
| all sites swapped is the donor's picture | last site left out; the upscaler's `attn1` no site; keys without values |
| pooled text is a site of its own | pooled text never swapped; the null one the donor's |
| a batch of plans equals each plan on its own | plans laid out in reverse |
| strength 0, 1 and between | `a` and `1 - a` exchanged |
| a plan for uncond rows is another negative prompt | rows of a swap ignored; lockstep without copying latents |
| each prompt's plan covers all its pictures | twins paired by prompt, not by picture; added pictures not taken off |
| embeddings as a donor are the prompt | given donors not put in place |
| replayed calls | uncond row captured; replayed twins keep the request's text |
| edits change their rows and no others | operators of one width used at all; an edited picture made contiguous |
| an edit of the output is of the picture's part | the text's part edited instead |
| all sites, and every law on joint hosts | twins with another seed; 1 counted for every row |
| a swap at the first site does not run on | pinned rows keep their own stream at the other blocks |
| a recorded stream is the twin of its seed | recorded with another seed; the first call's rows in every call |
| no dependence on what was recorded before | streams kept without the call's arguments |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, Asked, apart, asked

JOINT = ("sd3", "sd35", "flux-dev", "flux-schnell")
POOLED = (*JOINT, "sdxl", "sdxl-refiner", "if1", "if2")
GUIDED = tuple(n for n in zoo.NAMES if n != "sana-sprint")  # sprint has guidance embedded and no negative prompt


@pytest.fixture
def it(name: str) -> Asked:
    return asked(name)


every = pytest.mark.parametrize("name", zoo.NAMES)
joint = pytest.mark.parametrize("name", JOINT)


@every
@pytest.mark.law("L1")
def test_a_request_without_a_plan_equals_the_stock_solo_run(it: Asked) -> None:
    mine = it.steered([RED], [None], output_type="np")
    stock = it.stock([RED], output_type="np")
    assert torch.equal(mine, stock)
    assert apart(stock, it.stock([GREEN], output_type="np")) > it.different


@every
@pytest.mark.law("L0")
def test_neighbours_are_untouched_whatever_plans_the_others_carry(it: Asked) -> None:
    prompts = [RED, GREEN, RED, PINK]
    stock = it.stock(it.beside(prompts, PINK))
    for plan in (it.swap(PINK), it.swap(PINK, it.names[1:2], pooled="keep"), it.swap(PINK, strength=0.4)):
        mixed = it.steered(prompts, [None, plan, None, plan])
        assert torch.equal(mixed[0], stock[0])
        assert torch.equal(mixed[2], stock[2])
        assert apart(mixed[1], stock[1]) > it.different
    assert torch.equal(it.steered(prompts, [None] * 4), it.stock(prompts))


@every
@pytest.mark.law("all sites = donor")
def test_all_sites_swapped_is_the_donors_picture(it: Asked) -> None:
    stock = it.stock(it.beside([RED, GREEN], GREEN))
    steered = it.steered([RED, GREEN], [it.swap(GREEN), None])
    assert apart(stock[0], stock[1]) > it.different
    assert apart(steered[0], stock[1]) < it.tolerance
    assert torch.equal(steered[1], stock[1])


@every
def test_every_site_alone_moves_the_picture_and_no_two_alike(it: Asked) -> None:
    stock = it.stock(it.beside([RED, GREEN], GREEN))
    pictures = [it.steered([RED, GREEN], [it.swap(GREEN, [n], pooled="keep"), None])[0] for n in it.names]
    for k, picture in enumerate(pictures):
        assert min(apart(picture, stock[0]), apart(picture, stock[1])) > it.different / 10, it.names[k]
        assert all(apart(picture, other) > it.tolerance for other in pictures[k + 1 :])


@every
@pytest.mark.law("mixed batch")
def test_a_batch_of_plans_equals_each_plan_on_its_own_in_the_same_shape(it: Asked) -> None:
    from steering import Window

    plans = [
        it.swap(PINK, it.names[:1], pooled="keep"),
        it.swap(PINK, it.names[1:3]),
        None,
        it.swap(PINK, window=Window(0, 0.5)),
    ]
    prompts = [RED, GREEN, RED, GREEN]
    mixed = it.steered(prompts, plans)
    for i, plan in enumerate(plans):
        others = [plan if k == i else None for k in range(4)]
        alone = it.stock(it.beside(prompts, PINK)) if plan is None else it.steered(prompts, others)
        assert torch.equal(mixed[i], alone[i])
    assert apart(mixed[0], mixed[2]) > it.different / 10
    assert apart(mixed[1], mixed[3]) > it.different / 10


@every
@pytest.mark.law("windows")
def test_windows_are_parts_of_the_trajectory(it: Asked) -> None:
    from steering import Plan, Window

    stock = it.stock(it.beside([RED, GREEN], GREEN))
    full = it.steered([RED, GREEN], [it.swap(GREEN), None])[0]
    early = it.steered([RED, GREEN], [it.swap(GREEN, window=Window(0, 1 / 3)), None])[0]
    late = it.steered([RED, GREEN], [it.swap(GREEN, window=Window(1 / 3, 1)), None])[0]
    for empty in (Window(0, 0), Window(0.5, 0.5)):
        assert torch.equal(it.steered([RED, GREEN], [it.swap(GREEN, window=empty), None]), stock[:2])
    pictures = [stock[0], stock[1], early, late]
    assert all(apart(a, b) > it.different / 10 for i, a in enumerate(pictures) for b in pictures[i + 1 :])
    halves = Plan(*(it.swap(GREEN, window=w).interventions[0] for w in (Window(0, 1 / 3), Window(1 / 3, 1))))
    assert torch.equal(it.steered([RED, GREEN], [halves, None])[0], full)


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.law("pooled")
def test_pooled_text_leaks_past_all_sites_and_is_a_site_of_its_own(it: Asked) -> None:
    """Sites without pooled text miss the donor; pooled text with one site is less than all of them; null is the pooled
    text of the empty prompt."""
    stock = it.stock(it.beside([RED, GREEN, ""], GREEN))
    kept = it.steered([RED, GREEN], [it.swap(GREEN, pooled="keep"), None])[0]
    both = it.output_of([RED, GREEN], [it.swap(GREEN), None])
    assert apart(kept, stock[1]) > it.different / 10
    assert apart(both.images[0], stock[1]) < it.tolerance
    site = it.host.global_sites[0].name
    assert site not in it.names
    assert both.report[0].fired[site] == both.report[0].fired[it.names[0]] > 0
    empty = it.steered([RED, GREEN], [it.swap("", pooled="null"), None])[0]
    assert apart(empty, it.stock(it.beside([RED, GREEN, ""], ""))[2]) < it.tolerance * 10
    assert apart(empty, kept) > it.different / 10


@pytest.mark.parametrize("name", [n for n in zoo.NAMES if n not in POOLED])
def test_where_there_is_no_pooled_text_all_ways_of_it_are_one(it: Asked) -> None:
    assert it.host.global_sites == ()
    kept = it.steered([RED], [it.swap(GREEN, it.names[:2], pooled="keep")])
    for way in ("donor", "null"):
        assert torch.equal(it.steered([RED], [it.swap(GREEN, it.names[:2], pooled=way)]), kept)


@every
def test_strength_0_is_stock_1_is_full_and_between_lies_between(it: Asked) -> None:
    stock = it.stock([RED, GREEN])
    assert torch.equal(it.steered([RED, GREEN], [it.swap(GREEN, strength=0.0), None]), stock)
    at = {a: it.steered([RED, GREEN], [it.swap(GREEN, strength=a), None])[0] for a in (1e-5, 0.5, 0.99999, 1.0)}
    own, full = it.stock(it.beside([RED, GREEN], GREEN))[0], at[1.0]
    assert min(apart(at[0.5], own), apart(at[0.5], full)) > it.different / 10
    assert apart(at[1e-5], own) < 0.05 * apart(own, full)  # continuous at both ends
    assert apart(at[0.99999], full) < 0.05 * apart(own, full)


@pytest.mark.parametrize("name", GUIDED)
def test_uncond_rows_are_untouched_by_a_plan_for_cond_rows(it: Asked) -> None:
    """The cond half alone is the donor's picture only if the uncond half, with its own negative prompt, stayed."""
    prompts = [RED, GREEN]
    stock = it.stock(it.beside(prompts, GREEN), negative_prompt=[PINK] * len(it.beside(prompts, GREEN)))
    plain = it.stock(it.beside(prompts, GREEN))
    steered = it.steered(prompts, [it.swap(GREEN), None], negative_prompts=[PINK, PINK])
    assert apart(steered[0], stock[1]) < it.tolerance
    assert apart(stock[1], plain[1]) > it.different / 10


@pytest.mark.parametrize("name", [n for n in GUIDED if not n.startswith("flux")])
def test_a_plan_for_uncond_rows_is_another_negative_prompt(it: Asked) -> None:
    how = {"source": "lockstep"} if it.joint else {}
    prompts, negatives = [RED, RED], [GREEN, PINK]
    row = it.beside(prompts, PINK)
    stock = it.stock(row, negative_prompt=negatives + [GREEN] * (len(row) - 2))
    plan = it.swap(PINK, rows="uncond", **how)
    steered = it.steered(prompts, [plan, None], negative_prompts=negatives)
    assert apart(stock[0], stock[1]) > it.different / 10
    assert apart(steered[0], stock[1]) < it.tolerance * 10


@pytest.mark.parametrize("name", [n for n in GUIDED if not n.startswith("flux")])
def test_without_guidance_there_is_no_uncond_row(it: Asked) -> None:
    from steering import BadPlan

    stock = it.stock(it.beside([RED, GREEN], GREEN), guidance_scale=1.0)
    steered = it.steered([RED, GREEN], [it.swap(GREEN), None], guidance_scale=1.0)
    assert apart(steered[0], stock[1]) < it.tolerance
    with pytest.raises(BadPlan, match="has none"):
        it.steered([RED], [it.swap(GREEN, rows="uncond")], guidance_scale=1.0)


@every
def test_permuting_requests_permutes_pictures(it: Asked) -> None:
    prompts, seeds = [RED, GREEN, PINK], [1, 2, 3]
    plans = [it.swap(PINK, it.names[:2]), None, it.swap(RED, it.names[2:], strength=0.7)]
    order = [2, 0, 1]
    straight = it.steered(prompts, plans, seeds=seeds)
    turned = it.steered([prompts[i] for i in order], [plans[i] for i in order], seeds=[seeds[i] for i in order])
    assert apart(turned, straight[order]) < it.tolerance
    assert apart(turned, straight) > it.different / 10


@pytest.mark.parametrize("name", [n for n in zoo.NAMES if not zoo.extra(n)])
def test_each_prompts_plan_covers_all_its_pictures_and_seeds_count_up(it: Asked) -> None:
    out = it.output_of([RED, PINK], [it.swap(GREEN), None], seeds=[11, 40], num_images_per_prompt=2)
    assert [r.seed for r in out.report] == [11, 12, 40, 41]
    assert [bool(r.plan) for r in out.report] == [True, True, False, False]
    assert [r.extra_rows for r in out.report] == ([1, 1, 0, 0] if it.joint else [0] * 4)
    assert len(out.images) == 4
    seeds = [11, 40, *([11] if it.joint else [])]
    donor = it.stock(it.beside([GREEN, PINK], GREEN), seeds=seeds, num_images_per_prompt=2)
    own = it.stock(it.beside([RED, PINK], GREEN), seeds=seeds, num_images_per_prompt=2)
    if not it.name.startswith("sana"):  # stock tiles masks where it interleaves texts: see docs/limits.md
        assert apart(out.images[:2], donor[:2]) < it.tolerance
    assert torch.equal(torch.as_tensor(out.images[2:]), own[2:4])
    assert apart(donor[0], donor[1]) > it.different


@every
def test_a_prompt_as_its_own_donor_changes_nothing(it: Asked) -> None:
    stock = it.stock(it.beside([RED, GREEN], RED))
    assert apart(it.steered([RED, GREEN], [it.swap(RED), None]), stock[:2]) < it.tolerance
    assert apart(it.steered([RED, GREEN], [it.swap(GREEN), None])[0], stock[0]) > it.different


@every
def test_embeddings_as_a_donor_are_the_prompt(it: Asked) -> None:
    donor = it.host._prepared[0].donors.get((GREEN, None), lambda: _encoded(it, GREEN))
    given = it.steered([RED, PINK], [it.swap(donor), None])
    assert apart(given, it.steered([RED, PINK], [it.swap(GREEN), None])) < it.tolerance
    assert apart(given[0], it.stock([RED, PINK])[0]) > it.different


@every
def test_replayed_calls_are_the_pipelines_own_and_all_sites_are_the_donors(it: Asked) -> None:
    options = it.options(1)
    red = it.host.capture(RED, seed=7, at=(0.0, 0.5), **options)
    green = it.host.capture(GREEN, seed=7, at=(0.0,), **options)[0]
    for call in red:
        assert apart(it.host.replay(call, [None, None])[1], call.prediction) < it.tolerance
    alone = it.swap(GREEN, it.names[:1], pooled="keep")
    out = it.host.replay(red[0], [None, it.swap(GREEN), alone, it.swap(RED)])
    assert out.shape == (4, *red[0].prediction.shape)
    assert apart(out[1], green.prediction) < it.tolerance
    assert apart(out[3], red[0].prediction) < it.tolerance
    assert min(apart(out[0], out[1]), apart(out[0], out[2]) * 10) > it.different


@every
def test_edits_change_their_rows_and_no_others_at_every_width(it: Asked) -> None:
    """A projection onto a random plane, of the text and of the output, at all sites of one width in turn."""
    from steering import Edit, Operator, Plan

    prompts = [RED, GREEN]
    stock = it.stock(prompts)
    for where in ("text", "output"):
        by_width: dict[int, list[str]] = {}
        for p in it.host._prepared[0].sites:
            by_width.setdefault(p.text_width if where == "text" else p.output_width, []).append(p.name)
        acts = []
        for width, names in by_width.items():
            q = torch.linalg.qr(torch.randn(width, 3, generator=torch.Generator().manual_seed(width)))[0].T.contiguous()
            acts.append(Edit(tuple(names), Operator(q, q, torch.zeros_like(q), where=where)))  # type: ignore[arg-type]
        out = it.output_of(prompts, [Plan(*acts), None])
        edited = torch.as_tensor(out.images)
        assert torch.equal(edited[1], stock[1])
        assert apart(edited[0], stock[0]) > it.different / 10
        assert set(out.report[0].fired) == set(it.names)
        assert all(n > 0 for n in out.report[0].fired.values())
        assert all(d > 0 for d in (out.report[0].dose or {}).values())
        none = Plan(*(Edit(a.sites, a.operator, strength=0.0) for a in acts))
        assert torch.equal(it.steered(prompts, [none, None]), stock)


@every
def test_an_edit_of_the_output_is_of_the_pictures_part_of_it(it: Asked) -> None:
    """Projecting on everything leaves nothing: as if the picture's part of the output were zero."""
    from steering import Edit, Operator, Plan

    for placed in (it.host._prepared[0].sites[0], it.host._prepared[0].sites[-1]):
        unit = torch.eye(placed.output_width)
        plan = Plan(Edit((placed.name,), Operator(unit, unit, unit * 0, where="output"), rows="both"))
        edited = it.steered([RED], [plan])
        handle = placed.module.register_forward_hook(_nothing_of_the_picture(placed.rule.output))
        try:
            zeroed = it.stock([RED])
        finally:
            handle.remove()
        assert apart(edited, zeroed) < it.tolerance
        assert apart(edited, it.stock([RED])) > it.tolerance * 5


def _nothing_of_the_picture(part: str) -> Any:
    tokens = 24  # of text, in the zoo

    def hook(module: Any, args: Any, output: Any) -> Any:
        if part == "first":
            return (torch.zeros_like(output[0]), *output[1:])
        if part == "sequence":
            return torch.cat([output[:, :tokens], torch.zeros_like(output[:, tokens:])], 1)
        return torch.zeros_like(output)

    return hook


@pytest.mark.parametrize("name", [n for n in zoo.NAMES if n not in JOINT])
def test_where_text_is_a_side_input_callers_may_drive_the_pipeline(it: Asked) -> None:
    prompts = [RED, GREEN]
    with it.host.steer([it.swap(GREEN), None]) as facts:
        first = it.stock(prompts)
        second = it.stock([PINK, PINK])
    assert torch.equal(first, it.steered(prompts, [it.swap(GREEN), None]))
    assert len(facts) == 2
    assert torch.equal(second[1], it.stock([PINK, PINK])[1])
    assert not torch.equal(second[0], second[1])


# joint hosts: where the donor's text comes from


@joint
@pytest.mark.parametrize("mode", ["kv", "pinned"])
@pytest.mark.parametrize("source", ["twin", "lockstep"])
def test_either_way_of_swapping_at_all_sites_is_the_donors_picture(it: Asked, mode: str, source: str) -> None:
    prompts = [RED, GREEN]
    out = it.output_of(prompts, [it.swap(GREEN, mode=mode, source=source), None])
    donor = it.stock([RED, GREEN, GREEN, *([RED] if mode == "pinned" else [])])
    if source == "twin":
        assert apart(out.images[0], donor[1]) < it.tolerance
    else:  # the donor's text sees the request's picture, which becomes the donor's
        assert apart(out.images[0], donor[1]) < it.tolerance
    assert torch.equal(torch.as_tensor(out.images[1]), donor[1])
    assert out.report[0].extra_rows == (2 if mode == "pinned" else 1)
    assert len(out.images) == 2


@joint
def test_modes_and_sources_differ_at_some_of_the_sites(it: Asked) -> None:
    some = it.names[1:3]
    pictures = {
        (mode, source): it.steered([RED], [it.swap(GREEN, some, mode=mode, source=source)])[0]
        for mode, source in (
            ("kv", "twin"),
            ("kv", "lockstep"),
            ("kv", "canonical"),
            ("pinned", "twin"),
            ("pinned", "lockstep"),
        )
    }
    values = list(pictures.values())
    assert all(apart(a, b) > it.tolerance for i, a in enumerate(values) for b in values[i + 1 :])


@joint
@pytest.mark.parametrize("mode", ["kv", "pinned"])
def test_a_swap_at_the_first_site_does_not_run_on_into_the_later_ones(it: Asked, mode: str) -> None:
    """Were the donor's text handed on from block to block, the first site alone would be the donor's picture."""
    first = it.steered([RED, GREEN], [it.swap(GREEN, it.names[:1], mode=mode), None])[0]
    assert apart(first, it.stock(it.beside([RED, GREEN], GREEN))[1]) > it.different / 10


@joint
@pytest.mark.parametrize("mode", ["kv", "pinned"])
def test_a_pinned_prompt_as_its_own_donor_is_stock(it: Asked, mode: str) -> None:
    steered = it.steered([RED], [it.swap(RED, it.names[1:3], mode=mode, pooled="keep")])
    assert apart(steered[0], it.stock([RED, RED])[0]) < it.tolerance


@joint
def test_a_recorded_stream_is_the_twin_of_its_seed_and_adds_no_row(it: Asked) -> None:
    some = it.names[1:4]
    out = it.output_of([RED, PINK], [it.swap(GREEN, some, source="canonical"), None], seed=0)
    twin = it.output_of([RED, PINK], [it.swap(GREEN, some), None], seed=0)
    assert apart(out.images, twin.images) < it.tolerance
    assert [r.extra_rows for r in out.report] == [0, 0]
    assert [r.extra_rows for r in twin.report] == [1, 0]
    assert out.report[0].source == "canonical"
    assert torch.equal(torch.as_tensor(out.images)[1], it.stock([RED, PINK], 0)[1])
    other = it.steered([RED, PINK], [it.swap(GREEN, some, source="canonical"), None], seed=5)
    assert apart(other, it.steered([RED, PINK], [it.swap(GREEN, some), None], seed=5)) > it.tolerance


@joint
def test_a_result_does_not_depend_on_what_was_recorded_before(it: Asked) -> None:
    from steering.batch.donors import SizedCache

    prepared = it.host._prepared[0]
    plan, kept = it.swap(GREEN, it.names[:2], source="canonical"), prepared.streams
    try:
        prepared.streams = SizedCache(kept._size)
        cold = it.steered([RED], [plan])
        assert len(prepared.streams) == 1
        it.steered([RED], [plan], num_inference_steps=2)
        assert len(prepared.streams) == 2
        warm = it.steered([RED], [plan])
        prepared.streams = SizedCache(kept._size, budget=0)
        without = it.steered([RED], [plan])
        assert len(prepared.streams) == 0
    finally:
        prepared.streams = kept
    assert torch.equal(cold, warm)
    assert torch.equal(cold, without)


@joint
def test_one_twin_serves_all_requests_of_one_donor_and_seed(it: Asked) -> None:
    plan, alone = it.swap(GREEN), it.swap(GREEN, it.names[:1], pooled="keep")
    out = it.output_of([RED, PINK, RED], [plan, alone, None])
    assert out.report[0].shape.batch == 4
    apart_seeds = it.output_of([RED, PINK, RED], [plan, alone, None], seeds=[1, 2, 3])
    assert apart_seeds.report[0].shape.batch == 5
    locked = it.output_of([RED, PINK], [it.swap(GREEN, source="lockstep"), it.swap(GREEN, source="lockstep")])
    assert locked.report[0].shape.batch == 4


@joint
def test_a_caller_who_drives_the_pipeline_is_told_what_needs_rows(it: Asked) -> None:
    from steering import Edit, NeedsRows, Operator, Plan

    for more in ({}, {"source": "canonical"}, {"mode": "pinned"}):
        with pytest.raises(NeedsRows, match=r"use `host.generate`"), it.host.steer([it.swap(GREEN, **more)]):
            raise AssertionError("the block must not begin")
    width = it.host._prepared[0].sites[0].text_width
    q = torch.eye(width)[:2].contiguous()
    plan = Plan(Edit(it.names[:1], Operator(q, q, q * 0)))
    with it.host.steer([plan, None]):
        mixed = it.stock([RED, GREEN])
    assert torch.equal(mixed[1], it.stock([RED, GREEN])[1])
    assert apart(mixed[0], it.stock([RED, GREEN])[0]) > it.tolerance


@joint
def test_what_has_no_meaning_on_a_joint_host_is_refused_with_the_reason(it: Asked) -> None:
    from steering import BadPlan, NotSupported

    with pytest.raises(NotSupported, match="source `text` needs a host with cross-attention"):
        it.steered([RED], [it.swap(GREEN, source="text")])
    with pytest.raises(NotSupported, match=r"mode `pinned` needs the donor as a row"):
        it.steered([RED], [it.swap(GREEN, source="canonical", mode="pinned")])
    with pytest.raises(BadPlan, match="write `pooled` in a swap"):
        it.steered([RED], [it.swap(GREEN, [it.host.global_sites[0].name])])
    with pytest.raises(BadPlan, match="`latents` has an entry a row"):
        it.steered([RED], [it.swap(GREEN)], latents=torch.zeros(1, 16, 16))


def _encoded(it: Asked, prompt: str) -> Any:
    """A prompt as the call of the tests encodes it."""
    return it.host.capture(prompt, seed=0, at=(0.0,), **it.options(1))[0].encoding.encode(prompt)


def test_negative_prompts_that_the_pipeline_would_ignore_or_mix_up_are_refused() -> None:
    from steering import BadPlan

    flux, xl, sprint = asked("flux-dev"), asked("sdxl"), asked("sana-sprint")
    with pytest.raises(BadPlan, match="need a `true_cfg_scale` above 1"):
        flux.steered([RED], [None], negative_prompts=[PINK], true_cfg_scale=1.0)
    with pytest.raises(BadPlan, match="strings for all or none"):
        xl.steered([RED, GREEN], [None, None], negative_prompts=[PINK, None])
    with pytest.raises(BadPlan, match="takes no negative prompt"):
        sprint.steered([RED], [None], negative_prompts=[PINK])
