"""A host as its callers meet it: what it says of itself, one call at a time, errors before the call, and nothing left
after it.

| law | mutation that turned it red |
|---|---|
| a dead hook, a hook that dies in the middle | comparison of counters removed |
| the report; a dead hook | 1 counted for every row instead of `src != own` |
| what a call is given goes over the defaults | expected counts not summed |
| a denoiser called by itself is refused | `armed` not looked at |
| nothing is left after an exception | `replaced` without `finally`; hooks not removed |
| a call without a plan hooks no module | hooks on all sites in every call |
| a second call waits; raises at its timeout | lock not acquired |
| a host that fails its self-test is not steered | `Untrusted` not raised |
| steer with plans for other prompts | number of prompts not compared |
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch

RED, GREEN = "a red star", "green ring, sign 42"


class Stop(Exception):
    """Raised by a test's own callback."""


def own(ask: Any, build: Any, **options: Any) -> Any:
    """Asks a new host on a new pipeline, to break or change."""
    from steering import Host

    pipe = build(**{k: v for k, v in options.items() if k in ("kind", "scheduler", "seed")})
    return type(ask)(Host(pipe, defaults=ask.host.defaults, name="own", self_test=options.get("self_test", False)))


def left_behind(pipe: Any) -> list[str]:
    """Everything of ours that is still on a pipeline."""
    hooks = [n for n, m in pipe.transformer.named_modules() if m._forward_pre_hooks or m._forward_hooks]
    methods = [
        n
        for part in (pipe, pipe.scheduler)
        for n in ("encode_prompt", "set_timesteps", "step", "set_begin_index")
        if n in vars(part)
    ]
    return hooks + methods


def test_sites_are_the_cross_attentions_in_execution_order(host: Any) -> None:
    assert [s.name for s in host.sites] == [f"transformer_blocks.{i}.attn2" for i in range(4)]
    assert {s.kind for s in host.sites} == {"cross"}
    blocks = host.pipe.transformer.transformer_blocks
    assert [s.params for s in host.sites] == [sum(p.numel() for p in b.attn2.parameters()) for b in blocks]


def test_the_released_pixart_has_28_sites() -> None:
    """On the meta device: no weights are needed to know where text enters."""
    from diffusers import PixArtTransformer2DModel

    from steering.families.discovery import find_sites
    from steering.families.table import family_of

    with torch.device("meta"):
        denoiser = PixArtTransformer2DModel()
    assert len(find_sites(family_of("PixArtSigmaPipeline"), denoiser)) == 28


@pytest.mark.parametrize(
    ("name", "says"), [("StableDiffusionControlNetPipeline", "text inputs of its own"), ("OnnxPipeline", "no modules")]
)
def test_what_cannot_be_steered_is_refused_by_name_with_the_reason(name: str, says: str) -> None:
    from steering import Host, NotSupported

    with pytest.raises(NotSupported, match=rf"`{name}` cannot be steered: .*{says}"):
        Host(type(name, (), {})())


def test_a_host_needs_a_pipeline() -> None:
    from steering import Host, NotSupported

    with pytest.raises(NotSupported, match="at least one pipeline"):
        Host()


def test_a_call_without_a_plan_hooks_no_module(ask: Any) -> None:
    def look(i: int, n: int) -> None:
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in ask.host.pipe.transformer.modules())

    ask.steered([RED], [None], on_step=look)
    with pytest.raises(AssertionError):
        ask.steered([RED], [ask.swap(GREEN)], on_step=look)


def test_only_the_sites_of_the_plans_are_hooked(ask: Any) -> None:
    hooked: set[str] = set()

    def look(i: int, n: int) -> None:
        hooked.update(name for name, m in ask.host.pipe.transformer.named_modules() if name and m._forward_pre_hooks)

    ask.steered([RED, RED], [ask.swap(GREEN, ask.names[:1]), ask.swap(GREEN, ask.names[2:3])], on_step=look)
    assert hooked == {ask.names[0], ask.names[2]}


def test_the_report_says_what_was_done_to_each_picture(ask: Any) -> None:
    plan = ask.swap(GREEN, ask.names[1:3])
    first, second = ask.host.generate([RED, GREEN], plans=[plan, None], seeds=[3, 4]).report
    assert (first.seed, first.plan, first.source, first.extra_rows) == (3, plan.digest, "text", 0)
    assert first.fired == dict.fromkeys(ask.names[1:3], 4)
    assert first.dose is None
    assert (first.shape.batch, first.shape.row, first.shape.text_tokens, first.shape.dtype) == (2, 0, 24, "float32")
    assert (second.plan, second.fired, second.source, second.shape.row) == (None, {}, None, 1)
    both = ask.host.generate([RED], plans=[ask.swap(GREEN, rows="both")], seeds=[1]).report[0]
    assert both.fired == dict.fromkeys(ask.names, 8)


def test_a_dead_hook_is_found_out(ask: Any, build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent no-ops are the main danger: a site whose module is called past its hooks raises, and no picture comes
    out."""
    from steering import NotFired

    broken = own(ask, build)
    block = broken.host.pipe.transformer.transformer_blocks[2].attn2
    block.__class__ = type("Past", (type(block),), {"__call__": lambda self, *a, **k: self.forward(*a, **k)})
    with pytest.raises(NotFired, match=r"`transformer_blocks.2.attn2` replaced 0 rows where the plans say 4"):
        broken.steered([RED], [broken.swap(GREEN)])
    broken.steered([RED], [broken.swap(GREEN, [n for n in broken.names if ".2." not in n])])
    assert not broken.host.self_test().passed


def test_a_hook_that_dies_in_the_middle_of_a_run_is_found_out(ask: Any) -> None:
    from steering import NotFired

    def kill(i: int, n: int) -> None:
        if i == 1:
            ask.host.pipe.transformer.transformer_blocks[0].attn2._forward_pre_hooks.clear()

    with pytest.raises(NotFired, match="replaced 2 rows where the plans say 4"):
        ask.steered([RED], [ask.swap(GREEN)], on_step=kill)


def test_a_pipeline_that_never_steps_its_scheduler_is_found_out(ask: Any) -> None:
    from steering import NotFired

    with pytest.raises(NotFired, match="without a step for which"), ask.host.steer([ask.swap(GREEN)]):
        ask.host.pipe.encode_prompt(RED)


def test_a_denoiser_called_by_itself_under_a_plan_is_refused(ask: Any) -> None:
    from steering import BadLayout

    latents, text = torch.zeros(1, 4, 8, 8), torch.zeros(1, 24, 16)
    with pytest.raises(BadLayout, match="before the pipeline"), ask.host.steer([ask.swap(GREEN)]):
        ask.host.pipe.transformer(latents, encoder_hidden_states=text, timestep=torch.tensor([1]))


def test_a_host_that_fails_its_self_test_is_not_steered(ask: Any, build: Any) -> None:
    from steering import Host, Untrusted

    pipe = build()
    pipe.transformer.transformer_blocks[1].attn2.to_out[0].weight.data.zero_()  # a dead site
    pipe.transformer.transformer_blocks[1].attn2.to_out[0].bias.data.zero_()
    host = Host(pipe, defaults=ask.host.defaults, name="dead")
    assert host.tested is not None
    assert "no effect at transformer_blocks.1.attn2" in host.tested.failures()
    mine = type(ask)(host)
    with pytest.raises(Untrusted, match="every site is alive"):
        mine.steered([RED], [mine.swap(GREEN)])
    assert torch.equal(mine.steered([RED], [None]), mine.stock([RED]))


@pytest.mark.parametrize("scheduler", ["dpm", "ddim"])
def test_nothing_is_left_after_an_exception(ask: Any, build: Any, scheduler: str) -> None:
    mine = own(ask, build, scheduler=scheduler)
    stock = mine.stock([RED])

    def stop(i: int, n: int) -> None:
        if i == 1:
            raise Stop

    for plan in (mine.swap(GREEN), None):
        with pytest.raises(Stop):
            mine.steered([RED], [plan], on_step=stop)
        assert left_behind(mine.host.pipe) == []
        assert torch.equal(mine.stock([RED]), stock)
        assert mine.host.generate([RED], plans=[None], seeds=[7], timeout=0, output_type="latent").images.equal(stock)
    with pytest.raises(Stop), mine.host.steer([mine.swap(GREEN)]):
        raise Stop
    assert left_behind(mine.host.pipe) == []


def test_nothing_is_left_after_a_failure_inside_the_model(ask: Any, build: Any) -> None:
    from steering import BadDonor, Donor

    mine = own(ask, build)
    with pytest.raises(BadDonor):
        mine.steered([RED], [mine.swap(Donor(torch.ones(3, 99)))])
    assert left_behind(mine.host.pipe) == []
    mine.steered([RED], [mine.swap(GREEN)])
    assert left_behind(mine.host.pipe) == []


def test_a_second_call_waits_and_then_runs(ask: Any) -> None:
    order: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def slow(i: int, n: int) -> None:
        inside.set()
        assert go.wait(10)
        order.append("first")

    first = threading.Thread(target=lambda: ask.steered([RED], [ask.swap(GREEN)], on_step=slow))
    second = threading.Thread(target=lambda: ask.steered([GREEN], [None], on_step=lambda i, n: order.append("second")))
    first.start()
    assert inside.wait(10)
    second.start()
    time.sleep(0.1)
    assert order == []
    go.set()
    first.join(20)
    second.join(20)
    assert order == ["first"] * 4 + ["second"] * 4


def test_a_second_call_raises_at_its_timeout(ask: Any) -> None:
    from steering import HostBusy

    with ask.host.steer([None]):
        failed: list[BaseException] = []

        def call() -> None:
            try:
                ask.steered([RED], [None], timeout=0.05)
            except HostBusy as error:
                failed.append(error)

        other = threading.Thread(target=call)
        other.start()
        other.join(10)
        assert "waited 0.05 s" in str(failed[0])
        with pytest.raises(HostBusy, match="this thread"):
            ask.steered([RED], [None])
    ask.steered([RED], [None], timeout=0)


def test_two_hosts_that_share_a_module_are_refused(ask: Any, build: Any) -> None:
    from steering import Host, HostShared

    with pytest.raises(HostShared, match="belongs to host `tiny`"):
        Host(ask.host.pipe)
    other = build(seed=9)
    other.register_modules(text_encoder=ask.host.pipe.text_encoder)
    with pytest.raises(HostShared, match="`text_encoder`"):
        Host(other)


def test_a_host_that_is_closed_or_gone_claims_nothing(ask: Any, build: Any) -> None:
    from steering import Host

    pipe = build()
    first = Host(pipe, self_test=False)
    first.close()
    second = Host(pipe, self_test=False)
    del second
    Host(pipe, self_test=False)


def test_steer_steers_the_callers_own_calls(ask: Any) -> None:
    stock = ask.stock([RED, GREEN])
    with ask.host.steer([ask.swap(GREEN), None]) as facts:
        first = ask.stock([RED, GREEN])
        second = ask.stock([RED, GREEN], guidance_scale=1.0)
    assert torch.equal(first, ask.steered([RED, GREEN], [ask.swap(GREEN), None]))
    assert torch.equal(first[1], stock[1])
    assert not torch.equal(first[0], stock[0])
    assert not torch.equal(first, second)
    assert [f.batch for f in facts] == [4, 2]
    assert torch.equal(ask.stock([RED, GREEN]), stock)


def test_steer_finds_several_pictures_a_prompt_and_callers_embeddings(ask: Any) -> None:
    with ask.host.steer([ask.swap(GREEN), None]):
        pictures = ask.stock([RED, GREEN], num_images_per_prompt=2)
    assert torch.equal(pictures, ask.steered([RED, GREEN], [ask.swap(GREEN), None], num_images_per_prompt=2))
    with torch.no_grad():
        text, mask, *_ = ask.host.pipe.encode_prompt([RED, GREEN], False, max_sequence_length=24)
    with ask.host.steer([ask.swap(GREEN), None]):
        embedded = ask.host.pipe(
            prompt=None,
            negative_prompt=None,
            prompt_embeds=text,
            prompt_attention_mask=mask,
            generator=[torch.Generator().manual_seed(7) for _ in range(2)],
            output_type="latent",
            **ask.host.defaults.arguments() | {"guidance_scale": 1.0},
        ).images
    assert torch.equal(embedded, ask.steered([RED, GREEN], [ask.swap(GREEN), None], guidance_scale=1.0))


def test_steer_with_plans_for_other_prompts_is_an_error(ask: Any) -> None:
    from steering import BadPlan

    with pytest.raises(BadPlan, match="2 prompts, got 1 plans"), ask.host.steer([ask.swap(GREEN)]):
        ask.stock([RED, GREEN])


def test_an_unknown_site_names_the_nearest(ask: Any) -> None:
    from steering import UnknownSite

    with pytest.raises(
        UnknownSite, match=r"unknown site `blocks.3.attn` for host `tiny`; nearest: `transformer_blocks.3.attn2`"
    ):
        ask.steered([RED], [ask.swap(GREEN, ["blocks.3.attn"])])


def test_a_plan_made_for_another_host_is_refused(ask: Any) -> None:
    from steering import BadPlan, Plan, Swap

    swap = Swap(GREEN, sites=ask.names, pooled="keep")
    with pytest.raises(BadPlan, match="made for another host"):
        ask.steered([RED], [Plan(swap, made_for="0" * 64)])
    ask.steered([RED], [Plan(swap, made_for=ask.host.fingerprint.digest)])


@pytest.mark.parametrize("source", ["twin", "lockstep", "canonical"])
def test_sources_of_joint_hosts_are_refused_with_the_reason(ask: Any, source: str) -> None:
    from steering import NotSupported

    with pytest.raises(NotSupported, match=f"source `{source}`.*use `text`"):
        ask.steered([RED], [ask.swap(GREEN, source=source)])


def test_donors_that_do_not_fit_are_refused(ask: Any) -> None:
    from steering import BadDonor, Donor

    with pytest.raises(BadDonor, match="must be 16 wide like the host's encoded text, got 20"):
        ask.steered([RED], [ask.swap(Donor(torch.ones(4, 20)))])
    with pytest.raises(BadDonor, match=r"30 real tokens.*room for 24"):
        ask.steered([RED], [ask.swap(Donor(torch.ones(30, 16)))])
    padded = Donor(torch.ones(30, 16), torch.cat([torch.ones(10), torch.zeros(20)]))
    ask.steered([RED], [ask.swap(padded)])


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"prompt": "x"}, "write `prompts`"),
        ({"negative_prompt": "x"}, "write `negative_prompts`"),
        ({"generator": None}, "write `seeds`"),
        ({"callback": None}, "write `on_step`"),
        ({"prompt_embeds": None}, "use `host.steer`"),
        ({"negative_prompt_embeds_qwen": None}, "use `host.steer`"),
        ({"prompt_attention_mask_2": None}, "use `host.steer`"),
        ({"guidance": 2.0}, "unknown argument `guidance`.*did you mean `guidance_scale`"),
        ({"seeds": [1, 2]}, "seeds must have one entry a prompt, 1, got 2"),
        ({"seeds": [-1]}, "seeds must hold whole numbers"),
        ({"plans": []}, "plans must have one entry a prompt, 1, got 0"),
        ({"plans": ["x"]}, "must hold `Plan` or None"),
        ({"negative_prompts": "x"}, "negative_prompts must have one entry a prompt, 1, got a string"),
        ({"negative_prompts": [["x"]]}, "negative_prompts must hold strings or None, got `list`"),
        ({"guidance_scale": "3"}, "`guidance_scale` must be a number, got a string"),
        ({"prompts": RED}, "got one string"),
        ({"prompts": []}, "at least one"),
        ({"prompts": [3]}, "must hold strings"),
        ({"num_images_per_prompt": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_name_the_right_ones(ask: Any, kwargs: dict[str, Any], says: str) -> None:
    from steering import BadPlan

    prompts = kwargs.pop("prompts", [RED])
    with pytest.raises(BadPlan, match=says):
        ask.host.generate(prompts, **({"plans": [None], "seeds": [1]} | kwargs))


def test_negative_prompts_go_to_their_prompts_and_none_is_the_stock_default(ask: Any) -> None:
    stock = ask.stock([RED, RED], negative_prompt=[GREEN, ""])
    assert torch.equal(ask.steered([RED, RED], [None, None], negative_prompts=[GREEN, None]), stock)
    assert torch.equal(ask.steered([RED], [None], negative_prompts=[None]), ask.stock([RED]))
    assert not torch.equal(stock[0], stock[1])


def test_what_a_call_is_given_goes_over_the_models_defaults(ask: Any) -> None:
    out = ask.host.generate([RED], plans=[ask.swap(GREEN)], seeds=[1], num_inference_steps=2, output_type="latent")
    assert out.report[0].fired == dict.fromkeys(ask.names, 2)


def test_a_step_cache_is_refused_by_name(ask: Any, build: Any) -> None:
    from steering import NotSupported

    mine = own(ask, build)
    type(mine.host.pipe.transformer).is_cache_enabled = True
    try:
        with pytest.raises(NotSupported, match="step cache"):
            mine.steered([RED], [mine.swap(GREEN)])
    finally:
        del type(mine.host.pipe.transformer).is_cache_enabled
