"""Where donors come from on today's families: recorded, longer than the prompts, with quoted words, from one of several
encoders.

| law | mutation that turned it red |
|---|---|
| a recorded donor is its picture | masks not recorded; the check of lengths left out |
| donors may be longer than prompts | no room made for them |
| quoted words go with a donor | masks stay with the row |
| parts and missing parts of a donor are refused | each check left out |
| text is edited at every site | text sought behind the picture where the module is given it alone |
| experts project donors themselves | one bank for both |
| tokens of a picture that is not square | its patches counted |
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, RED, Asked, apart
from tests.steering.today import cross, several_encoders, shared_projections, video, zoo

ALIKE = "a new star"  # as many tokens as RED, for pipelines that pad to the longest prompt
QUOTED = 'a sign "HI"'

RECORDED = (
    *("cogview3", "cogview4", "hidream", "hidream-oblong", "hunyuan-dit", "hunyuan-image", "hunyuan-video15"),
    *("ideogram4", "kandinsky5", "nucleus"),
)
# text that no picture changes on its way to the blocks
STATIC = ("hunyuan-dit", "kandinsky5", "nucleus")
EDITED = [n for file in (cross, several_encoders, shared_projections, video) for n in file.BUILD]
# the denoiser is given more of a prompt than one text, its mask and its pooled text
SEVERAL = ("bria-fibo", "hidream", "hunyuan-dit", "hunyuan-image", "hunyuan-video15", "ideogram4")


@cache
def asked(name: str) -> Asked:
    return Asked(name, zoo.build(name), call=zoo.CALL[name], self_test=False)  # `today/test_laws` has tried them


@pytest.fixture
def it(name: str) -> Asked:
    return asked(name)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_donor_is_its_picture_for_the_seed_of_the_record_and_adds_no_row(it: Asked) -> None:
    from steering.batch.recorded_text import CANONICAL_SEED

    stock = it.stock([ALIKE], seed=CANONICAL_SEED)
    output = it.output_of([RED], [it.swap(ALIKE, source="canonical")], seed=CANONICAL_SEED)
    assert apart(output.images[0], stock[0]) < it.tolerance
    assert apart(it.stock([RED], seed=CANONICAL_SEED)[0], stock[0]) > it.different
    assert output.report[0].extra_rows == 0


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_donors_leave_their_neighbours_untouched(it: Asked) -> None:
    stock = it.stock([RED, RED])
    mixed = it.steered([RED, RED], [None, it.swap(ALIKE, source="canonical")])
    assert torch.equal(mixed[0], stock[0])
    assert apart(mixed[1], stock[1]) > it.different


@pytest.mark.parametrize("name", STATIC)
def test_a_recorded_donor_is_exact_for_every_seed_where_text_is_static(it: Asked) -> None:
    steered = it.steered([RED], [it.swap(ALIKE, source="canonical")], seed=7)
    assert apart(steered, it.stock([ALIKE], seed=7)) < it.tolerance


@pytest.mark.parametrize("name", ["cogview4", "kandinsky5", "nucleus"])
def test_a_recorded_donor_of_another_length_is_refused_where_padding_is_to_the_longest(it: Asked) -> None:
    from steering import BadLayout

    with pytest.raises(BadLayout, match="use source `twin`"):
        it.steered([RED], [it.swap(GREEN, source="canonical")])


@pytest.mark.parametrize("name", ["qwen-image", "lumina2"])
def test_a_recorded_donor_without_a_mask_is_refused_beside_longer_prompts(it: Asked) -> None:
    from steering import BadLayout

    with pytest.raises(BadLayout, match=r"a recorded donor has nothing as `.*mask"):
        it.steered([RED, GREEN], [it.swap(GREEN, source="canonical"), None])


@pytest.mark.parametrize("name", ["lumina-next", "kandinsky3"])
def test_a_donor_may_be_longer_than_every_prompt_of_the_call(it: Asked) -> None:
    assert apart(it.steered([RED], [it.swap(GREEN)]), it.stock([GREEN])) < it.tolerance


@pytest.mark.parametrize("name", ["hunyuan-image", "hunyuan-video15"])
@pytest.mark.parametrize("donor", [QUOTED, RED])
def test_quoted_words_go_with_a_donor(it: Asked, donor: str) -> None:
    own = RED if donor == QUOTED else QUOTED
    prompts = [own, QUOTED]
    stock = it.stock(it.beside(prompts, donor))
    steered = it.steered(prompts, [it.swap(donor), None])
    assert torch.equal(steered[1], stock[1])
    assert apart(steered[0], stock[-1]) < it.tolerance
    assert apart(stock[0], stock[-1]) > it.different


@pytest.mark.parametrize("name", ["lumina-next", "prx", "hunyuan-image", "nucleus"])
def test_a_part_of_a_donor_is_refused_where_masks_say_yes_or_no(it: Asked) -> None:
    from steering import NotSupported

    with pytest.raises(NotSupported, match="strength must be 1 at site"):
        it.steered([RED], [it.swap(GREEN, strength=0.5)])


@pytest.mark.parametrize("name", SEVERAL)
def test_what_would_miss_a_part_of_the_donor_is_refused(it: Asked) -> None:
    from steering import BadDonor, Donor, NotSupported

    with pytest.raises(NotSupported, match="cannot be captured: its denoiser is given more of a prompt"):
        it.host.capture(RED, seed=7, at=(0.0,), **it.options(1))
    given = Donor(torch.zeros(4, 16), torch.ones(4))
    with pytest.raises(BadDonor, match="donor must be a prompt"):
        it.steered([RED], [it.swap(given, pooled="keep")])


@pytest.mark.parametrize("name", EDITED)
def test_text_is_edited_at_every_site_and_in_its_row_alone(it: Asked) -> None:
    from steering import Edit, Operator, Plan

    stock = it.stock([RED, RED])
    acts = []
    for width in sorted({p.text_width for p in it.host.prepared.sites}):
        names = tuple(p.name for p in it.host.prepared.sites if p.text_width == width)
        unit = torch.nn.functional.normalize(torch.linspace(-1, 1, width)[None], dim=-1)
        acts.append(Edit(names, Operator(unit, unit, 0 * unit)))
    more: dict[str, Any] = {"use_kv_cache": False} if it.host.family.inputs.cached is not None else {}
    edited = it.output_of([RED, RED], [Plan(*acts), None], **more)
    assert torch.equal(torch.as_tensor(edited.images[1]), it.stock([RED, RED], **more)[1])
    assert apart(edited.images[0], stock[0]) > it.tolerance
    assert min(edited.report[0].fired.values()) > 0


def test_a_picture_that_is_not_square_has_as_many_tokens_as_the_largest() -> None:
    from steering.families.facts import picture_tokens

    it = asked("hidream-oblong")
    inputs, lengths = it.host.family.inputs, []
    handle = it.host.prepared.sites[-1].module.register_forward_pre_hook(
        lambda module, args: lengths.append(args[0].shape[1])
    )
    try:
        latents = it.stock([RED])
    finally:
        handle.remove()
    assert latents.shape[2] != latents.shape[3]
    text = 3 * it.call["max_sequence_length"]  # of T5, and twice of Llama
    assert lengths[0] - text == picture_tokens(inputs, it.host.denoiser, latents, {})
    assert picture_tokens(inputs, it.host.denoiser, torch.zeros(1, 4, 4, 4), {}) == 4


def test_each_expert_has_sites_of_its_own_and_projects_donors_itself() -> None:
    it = asked("wan22")
    first = tuple(n for n in it.names if not n.startswith("transformer_2/"))
    second = tuple(n for n in it.names if n.startswith("transformer_2/"))
    assert len(first) == len(second) == 4
    stock = it.stock([RED, GREEN])
    by_first, by_second = (it.steered([RED, GREEN], [it.swap(GREEN, names), None])[0] for names in (first, second))
    assert min(apart(by_first, stock[0]), apart(by_second, stock[0])) > it.different / 10
    assert apart(by_first, by_second) > it.different / 10
