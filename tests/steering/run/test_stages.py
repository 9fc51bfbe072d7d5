"""Hosts of several pipelines: DeepFloyd IF's three stages, SDXL and its refiner.

| law | mutation that turned it red |
|---|---|
| sites of later pipelines have their stage before their name | prefix left out |
| without plans the stages are the stock ones | later stages draw from the next seed |
| all sites of all stages are the donor's picture | plans for the first pipeline only |
| negative prompts reach every stage | negative prompts for the first pipeline only |
| a later stage without a text encoder | donors encoded by the stage itself |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, apart

TOLERANCE = 1e-3  # several models one after the other
DIFFERENT = 100 * TOLERANCE


class Chain:
    """A host of pipelines, and the stock pipelines called one after the other."""

    def __init__(self, *names: str, handed_on: str, own: list[dict[str, Any]] | None = None) -> None:
        from steering import Host

        self.pipes = [zoo.build(n) for n in names]
        self.handed_on = handed_on
        self.own = [zoo.CALL[n] | more for n, more in zip(names, own or [{}] * len(names), strict=True)]
        self.host = Host(*self.pipes, name="+".join(names))
        self.names = tuple(s.name for s in self.host.sites)

    def steered(self, prompts: list[str], plans: list[Any], count: int = 1, **more: Any) -> Any:
        seeds = [7] * len(prompts)
        return self.host.generate(
            prompts, plans=plans, seeds=seeds, stages=self.own, num_images_per_prompt=count, output_type="np", **more
        )

    def stock(self, prompts: list[str], **more: Any) -> torch.Tensor:
        image: Any = None
        for n, pipe in enumerate(self.pipes):
            last = n == len(self.pipes) - 1
            call = self.own[n] | more | {"output_type": "np" if last else self.handed_on}
            call |= {} if image is None else {"image": image}
            generators = [torch.Generator("cpu").manual_seed(7) for _ in prompts]
            image = pipe(prompt=prompts, generator=generators, **call).images
        return torch.as_tensor(image)

    def swap(self, donor: str, sites: Any = None, **more: Any) -> Any:
        from steering import Plan, Swap

        return Plan(Swap(donor, sites=sites or self.names, **({"pooled": "donor"} | more)))


@pytest.fixture(scope="module", params=["if", "sdxl"])
def chain(request: pytest.FixtureRequest) -> Chain:
    if request.param == "if":
        return Chain("if1", "if2", "if3", handed_on="pt")
    return Chain(
        "sdxl",
        "sdxl-refiner",
        handed_on="latent",
        own=[{"denoising_end": 0.6}, {"denoising_start": 0.6, "strength": 0.3}],
    )


def test_sites_of_later_pipelines_have_their_stage_before_their_name(chain: Chain) -> None:
    assert chain.host.tested is not None
    assert chain.host.tested.passed, chain.host.tested.failures()
    stages = {n.split("/")[0] if "/" in n else "" for n in chain.names}
    assert stages == {"", *(f"stage{n}" for n in range(2, len(chain.pipes) + 1))}
    assert len(set(chain.names)) == len(chain.names)
    assert chain.host.fingerprint.pipeline.count("+") == len(chain.pipes) - 1


def test_without_plans_the_stages_are_the_stock_ones(chain: Chain) -> None:
    stock = chain.stock([RED, GREEN])
    assert torch.equal(torch.as_tensor(chain.steered([RED, GREEN], [None, None]).images), stock)
    assert apart(stock[0], stock[1]) > DIFFERENT


def test_all_sites_of_all_stages_are_the_donors_picture_and_neighbours_are_untouched(chain: Chain) -> None:
    stock = chain.stock([RED, GREEN])
    out = chain.steered([RED, GREEN], [chain.swap(GREEN), None])
    assert apart(out.images[0], stock[1]) < TOLERANCE
    assert torch.equal(torch.as_tensor(out.images[1]), stock[1])
    assert set(out.report[0].fired) >= set(chain.names)
    assert all(out.report[0].fired[n] > 0 for n in chain.names)


def test_one_stage_alone_is_neither(chain: Chain) -> None:
    stock = chain.stock([RED, GREEN])
    first = [n for n in chain.names if "/" not in n]
    later = [n for n in chain.names if "/" in n]
    for sites in (first, later):
        out = chain.steered([RED, GREEN], [chain.swap(GREEN, sites), None])
        assert set(out.report[0].fired) & set(chain.names) == set(sites)
        assert min(apart(out.images[0], stock[0]), apart(out.images[0], stock[1])) > DIFFERENT / 10
        assert torch.equal(torch.as_tensor(out.images[1]), stock[1])


def test_negative_prompts_and_several_pictures_reach_every_stage(chain: Chain) -> None:
    one = chain.steered([RED, GREEN], [chain.swap(PINK), None], negative_prompts=[PINK, PINK])
    assert apart(one.images[1], chain.stock([RED, GREEN], negative_prompt=[PINK, PINK])[1]) < TOLERANCE
    two = chain.steered([RED, GREEN], [chain.swap(PINK), None], count=2)
    assert len(two.images) == 4
    assert [r.seed for r in two.report] == [7, 8, 7, 8]
    assert [bool(r.plan) for r in two.report] == [True, True, False, False]
    assert apart(two.images[0], two.images[1]) > DIFFERENT / 10
    assert apart(two.images[0], chain.steered([RED, GREEN], [chain.swap(PINK), None]).images[0]) < TOLERANCE


def test_a_later_stage_without_a_text_encoder_takes_the_first_ones() -> None:
    whole = Chain("if1", "if2", handed_on="pt")
    want = whole.steered([RED, GREEN], [whole.swap(GREEN, whole.names[-3:]), None]).images
    whole.host.close()
    encoder = whole.pipes[0].text_encoder
    own = zoo.build("if2")
    own.text_encoder.load_state_dict(encoder.state_dict())
    from steering import Host

    both = Host(whole.pipes[0], own, name="both")
    same = both.generate([RED, GREEN], plans=[None, None], seeds=[7, 7], stages=whole.own, output_type="np").images
    both.close()
    own.text_encoder = own.tokenizer = None
    lent = Host(whole.pipes[0], own, name="lent")
    assert lent.tested is not None
    assert lent.tested.passed, lent.tested.failures()
    got = lent.generate([RED, GREEN], plans=[None, None], seeds=[7, 7], stages=whole.own, output_type="np").images
    assert apart(got, same) < TOLERANCE
    plan = whole.swap(GREEN, whole.names[-3:])
    steered = lent.generate([RED, GREEN], plans=[plan, None], seeds=[7, 7], stages=whole.own, output_type="np").images
    assert apart(steered[1], same[1]) < TOLERANCE
    assert apart(steered[0], same[0]) > DIFFERENT / 10
    assert len(want) == 2


def test_what_stages_cannot_be_is_refused() -> None:
    from steering import BadPlan, Host, NotSupported

    chain = Chain("if1", "if2", handed_on="pt")
    with pytest.raises(BadPlan, match="one entry a pipeline, 2, got 1"):
        chain.host.generate([RED], plans=[None], seeds=[1], stages=[{}])
    with pytest.raises(BadPlan, match=r"unknown argument `noise_leve`.*did you mean `noise_level`"):
        chain.host.generate([RED], plans=[None], seeds=[1], stages=[{}, {"noise_leve": 1}])
    with pytest.raises(NotSupported, match="cannot be a later stage"):
        Host(zoo.build("sd1"), zoo.build("sd3"))
