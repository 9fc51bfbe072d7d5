"""The laws of steering, on real diffusers pipelines: what is swapped is the donor's, what is not is the stock
pipeline's bit for bit.

Every law is stated between pictures that lie more than a hundred tolerances apart (`DIFFERENT`). Each was seen red
under the mutation that stands beside it:

| law | mutation that turned it red |
|---|---|
| a request without a plan equals the stock solo run | generators seeded with `s + 1` |
| neighbours are untouched | identity rows of `src` rolled by one |
| a huge donor does not reach its neighbours | `own * (1 - on) + on * given` for the gather |
| all sites swapped is the donor's picture | last site of a plan left out |
| uncond rows are untouched; no uncond row | cond and uncond exchanged in `Layout.rows` |
| uncond rows as another negative prompt | `rows` ignored, always cond |
| strength 0, 1 and between | `a` and `1 - a` exchanged; masks blended by maximum |
| permuting requests permutes pictures | plans laid out in reverse |
| each prompt's plan covers all its pictures | plans repeated as a block |
| the donor's mask travels with its text | own mask kept |
| a result does not depend on the cache | LRU key without the arguments of encoding |
| new weights empty the cache in effect | LRU key without the encoder's weight version |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

TOLERANCE = 1e-5
DIFFERENT = 100 * TOLERANCE
RED, GREEN, PINK = "a red star", "green ring, sign 42", "pink moon"


def apart(a: Any, b: Any) -> float:
    return float((torch.as_tensor(a) - torch.as_tensor(b)).abs().max())


def test_a_request_without_a_plan_equals_the_stock_solo_run(family: Any) -> None:
    """L1, on decoded pixels."""
    mine = family.steered([RED], [None], [5], output_type="np")
    stock = family.stock([RED], [5], output_type="np")
    assert (mine == stock).all()
    assert apart(stock, family.stock([GREEN], [5], output_type="np")) > DIFFERENT


def test_neighbours_are_untouched_whatever_plans_the_others_carry(family: Any) -> None:
    """L0: same rows, same execution shape, other plans beside them."""
    prompts = [RED, GREEN, RED, PINK]
    stock = family.stock(prompts)
    for plan in (family.swap(PINK), family.swap(PINK, family.names[1:2]), family.swap(PINK, strength=0.4)):
        mixed = family.steered(prompts, [None, plan, None, plan])
        assert torch.equal(mixed[0], stock[0])
        assert torch.equal(mixed[2], stock[2])
        assert apart(mixed[1], stock[1]) > DIFFERENT
    assert family.steered(prompts, [None] * 4).equal(stock)


def test_a_huge_donor_does_not_reach_its_neighbours(ask: Any) -> None:
    """An untouched row is not computed from the donor, not even times zero: inf * 0 would be nan."""
    from steering import BrokenPicture, Donor

    plans = [None, ask.swap(Donor(torch.full((24, 16), 3e38)))]
    stock = ask.stock([RED, RED])
    with ask.host.steer(plans):  # which gives what the pipeline gives
        mixed = ask.stock([RED, RED])
    assert torch.equal(mixed[0], stock[0])
    assert not torch.isfinite(mixed[1]).all()
    with pytest.raises(BrokenPicture, match="those of row 1 are not"):
        ask.steered([RED, RED], plans)


def test_all_sites_swapped_is_the_donors_picture(family: Any) -> None:
    stock = family.stock([RED, GREEN])
    steered = family.steered([RED, GREEN], [family.swap(GREEN), None])
    assert apart(stock[0], stock[1]) > DIFFERENT
    assert apart(steered[0], stock[1]) < TOLERANCE


def test_fewer_sites_are_neither_the_own_nor_the_donors_picture(ask: Any) -> None:
    stock = ask.stock([RED, GREEN])
    for name in ask.names:
        alone = ask.steered([RED, GREEN], [ask.swap(GREEN, [name]), None])[0]
        rest = ask.steered([RED, GREEN], [ask.swap(GREEN, [n for n in ask.names if n != name]), None])[0]
        for picture in (alone, rest):
            assert min(apart(picture, stock[0]), apart(picture, stock[1])) > DIFFERENT


def test_uncond_rows_are_untouched_by_a_plan_for_cond_rows(ask: Any) -> None:
    """The cond half alone is the donor's picture only if the uncond half, with its own negative prompt, stayed."""
    stock = ask.stock([RED, GREEN], negative_prompt=[PINK, PINK])
    options = {"negative_prompts": [PINK, PINK]}
    cond = ask.steered([RED, GREEN], [ask.swap(GREEN), None], **options)
    assert apart(cond[0], stock[1]) < TOLERANCE
    both = ask.steered([RED, GREEN], [ask.swap(GREEN, rows="both"), None], **options)
    assert apart(both[0], stock[1]) > DIFFERENT
    assert torch.equal(both[1], stock[1])


def test_a_plan_for_uncond_rows_is_another_negative_prompt(ask: Any) -> None:
    stock = ask.stock([RED, RED], negative_prompt=[GREEN, PINK])
    options = {"negative_prompts": [GREEN, PINK]}
    steered = ask.steered([RED, RED], [ask.swap(PINK, rows="uncond"), None], **options)
    assert apart(stock[0], stock[1]) > DIFFERENT
    assert apart(steered[0], stock[1]) < TOLERANCE
    both = ask.steered([PINK, RED], [ask.swap(RED, rows="both"), None], **options)
    same = ask.stock([RED, RED], negative_prompt=[RED, PINK])
    assert apart(both[0], same[0]) < TOLERANCE


def test_without_guidance_there_is_no_uncond_row(ask: Any) -> None:
    from steering import BadPlan

    stock = ask.stock([RED, GREEN], guidance_scale=1.0)
    for rows in ("cond", "both"):
        steered = ask.steered([RED, GREEN], [ask.swap(GREEN, rows=rows), None], guidance_scale=1.0)
        assert apart(steered[0], stock[1]) < TOLERANCE
        assert torch.equal(steered[1], stock[1])
    assert apart(stock[0], stock[1]) > DIFFERENT
    with pytest.raises(BadPlan, match="has none"):
        ask.steered([RED], [ask.swap(GREEN, rows="uncond")], guidance_scale=1.0)


def test_a_prompt_as_its_own_donor_changes_nothing(ask: Any) -> None:
    stock = ask.stock([RED])
    assert torch.equal(ask.steered([RED], [ask.swap(RED)]), stock)
    assert apart(ask.steered([RED], [ask.swap(GREEN)]), stock) > DIFFERENT


def test_strength_0_is_stock_1_is_full_and_between_lies_between(ask: Any) -> None:
    stock = ask.stock([RED, GREEN])
    pictures = {
        a: ask.steered([RED, GREEN], [ask.swap(GREEN, strength=a), None])[0] for a in (0.0, 1e-4, 0.5, 0.9999, 1.0)
    }
    assert torch.equal(pictures[0.0], stock[0])
    assert torch.equal(pictures[1.0], ask.steered([RED, GREEN], [ask.swap(GREEN), None])[0])
    assert min(apart(pictures[0.5], stock[0]), apart(pictures[0.5], stock[1])) > DIFFERENT
    full = apart(stock[0], stock[1])
    assert apart(pictures[1e-4], stock[0]) < 0.01 * full  # continuous at both ends, masks included
    assert apart(pictures[0.9999], stock[1]) < 0.01 * full


def test_permuting_requests_permutes_pictures(ask: Any) -> None:
    prompts, seeds = [RED, GREEN, PINK], [1, 2, 3]
    plans = [ask.swap(PINK, ask.names[:2]), None, ask.swap(RED, ask.names[2:], strength=0.7)]
    order = [2, 0, 1]
    straight = ask.steered(prompts, plans, seeds)
    turned = ask.steered([prompts[i] for i in order], [plans[i] for i in order], [seeds[i] for i in order])
    assert apart(turned, straight[order]) < TOLERANCE
    assert apart(turned, straight) > DIFFERENT


def test_a_batch_of_plans_equals_each_plan_on_its_own_in_the_same_shape(ask: Any) -> None:
    plans = [ask.swap(PINK, ask.names[:1]), ask.swap(GREEN, ask.names[1:3]), None, ask.swap(PINK, strength=0.3)]
    prompts = [RED] * 4
    mixed = ask.steered(prompts, plans)
    for i, plan in enumerate(plans):
        alone = ask.steered(prompts, [plan if k == i else None for k in range(4)])
        assert torch.equal(mixed[i], alone[i])
    assert min(apart(a, b) for i, a in enumerate(mixed) for b in mixed[i + 1 :]) > DIFFERENT


def test_each_prompts_plan_covers_all_its_pictures_and_seeds_count_up(ask: Any) -> None:
    out = ask.host.generate(
        [RED, PINK], plans=[ask.swap(GREEN), None], seeds=[11, 40], num_images_per_prompt=2, output_type="latent"
    )
    assert [r.seed for r in out.report] == [11, 12, 40, 41]
    assert [bool(r.plan) for r in out.report] == [True, True, False, False]
    donor = ask.stock([GREEN, PINK], [11, 40], num_images_per_prompt=2)
    assert apart(out.images, donor) < TOLERANCE
    assert torch.equal(out.images[2:], ask.stock([RED, PINK], [11, 40], num_images_per_prompt=2)[2:])
    assert apart(donor[0], donor[1]) > DIFFERENT


def test_the_donors_mask_travels_with_its_text(ask: Any) -> None:
    """A donor of five tokens is the same alone, padded with zeros, and padded with noise under its mask."""
    from steering import Donor

    generator = torch.Generator().manual_seed(0)
    five = torch.randn(5, 16, generator=generator)
    noise = torch.randn(19, 16, generator=generator) * 10
    mask = torch.cat([torch.ones(5), torch.zeros(19)])
    donors = [Donor(five), Donor(torch.cat([five, torch.zeros(19, 16)]), mask), Donor(torch.cat([five, noise]), mask)]
    pictures = [ask.steered([RED], [ask.swap(d)]) for d in donors]
    assert apart(pictures[0], pictures[1]) < TOLERANCE
    assert apart(pictures[0], pictures[2]) < TOLERANCE
    assert apart(pictures[0], ask.steered([RED], [ask.swap(Donor(torch.cat([five, noise])))])) > DIFFERENT


def test_a_donor_prompt_and_the_same_text_as_a_donor_are_one(ask: Any) -> None:
    from steering import Donor

    with torch.no_grad():  # as the pipeline does: other kernels run where gradients are kept
        text, mask, *_ = ask.host.pipe.encode_prompt(GREEN, False, max_sequence_length=24)
    by_hand = ask.steered([RED], [ask.swap(Donor(text[0], mask[0]))])
    assert torch.equal(by_hand, ask.steered([RED], [ask.swap(GREEN)]))


def test_a_result_does_not_depend_on_the_cache(ask: Any) -> None:
    """Warm, cold, without room, and after a call that encoded the same donor otherwise."""
    from steering.batch.donors import SizedCache

    prepared = ask.host._prepared[0]
    kept = prepared.donors
    try:
        prepared.donors = SizedCache(kept._size)
        cold = ask.steered([RED], [ask.swap(GREEN)])
        assert len(prepared.donors) == 1
        warm = ask.steered([RED], [ask.swap(GREEN)])
        ask.steered([RED], [ask.swap(GREEN)], max_sequence_length=8)
        assert len(prepared.donors) == 2
        after = ask.steered([RED], [ask.swap(GREEN)])
        prepared.donors = SizedCache(kept._size, budget=0)
        without = ask.steered([RED], [ask.swap(GREEN)])
        assert len(prepared.donors) == 0
    finally:
        prepared.donors = kept
    assert all(torch.equal(cold, other) for other in (warm, after, without))


def test_new_weights_of_the_text_encoder_empty_the_cache_in_effect(ask: Any, build: Any) -> None:
    from steering import Host

    own = type(ask)(Host(build(seed=5), defaults=ask.host.defaults, name="changing", self_test=False))
    before = own.steered([RED], [own.swap(GREEN)])
    with torch.no_grad():
        own.host.pipe.text_encoder.shared.weight.mul_(1.5)
    after = own.steered([RED], [own.swap(GREEN)])
    assert apart(before, after) > DIFFERENT
    assert apart(after, own.stock([GREEN])) < TOLERANCE


def test_modes_kv_and_pinned_and_all_ways_of_pooled_coincide_here(ask: Any) -> None:
    """Cross-attention hosts have one text input a site, and PixArt has no pooled text (said in `Swap`'s docstring)."""
    one = ask.steered([RED], [ask.swap(GREEN, ask.names[:2])])
    for more in ({"mode": "pinned"}, {"pooled": "donor"}, {"pooled": "null"}):
        assert torch.equal(one, ask.steered([RED], [ask.swap(GREEN, ask.names[:2], **more)]))


def test_the_self_test_passes_and_reports_every_law(family: Any) -> None:
    report = family.host.self_test()
    assert report.passed, report.failures()
    assert {c.name for c in report.checks} >= {"neighbours untouched", "all sites are the donor", "every site is alive"}
