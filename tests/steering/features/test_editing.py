"""What a call keeps of another's way, and the way back from a given picture.

| law | mutation that turned it red |
|---|---|
| resumed, a picture is the same | predictions of kept steps not given to the scheduler |
| kept steps cost nothing | `skips` always False |
| outside of the mask latents are the source's | `torch.where` with its values the wrong way round |
| other rows take no notice | `kept` of row 0 used for all rows |
| the way back leads to the picture | sign of `_noise` of a flow; `unit` left out |
| pasted pixels are the source's | `share` not zeroed outside of the mask |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.steering import zoo
from tests.steering.conftest import build_pipe
from tests.steering.family_cases import GREEN, PINK, RED, Asked, apart, asked
from tests.steering.feature_cases import denoiser_of, on

ONE_STAGE = ("sd1", "sdxl", "sd3", "pixart-alpha", "pixart-sigma", "flux-dev", "sana", "if1")


def recorded(it: Asked, prompts: list[str], plans: list[Any] | None = None, **more: Any) -> Any:
    return it.output_of(prompts, plans or [None] * len(prompts), record=True, **more)


def left_half(it: Asked) -> np.ndarray:
    """A mask of the pictures of a host: 1 on their left half."""
    height, width = (int(it.options(1).get(k, 16)) for k in ("height", "width"))
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    return mask


@pytest.mark.parametrize("name", ONE_STAGE)
@pytest.mark.law("editing")
def test_a_picture_that_is_resumed_is_the_same_and_costs_what_is_left(name: str) -> None:
    from steering import Kept

    it = asked(name)
    plain = it.steered([RED, GREEN], [None, None])
    out = recorded(it, [RED, GREEN])
    assert torch.equal(torch.as_tensor(out.images), plain), "writing down changes nothing"
    calls: list[int] = []
    inside = next(m for m in denoiser_of(it.pipe).modules() if isinstance(m, torch.nn.Linear))
    with inside.register_forward_hook(lambda *_: calls.append(1)):
        it.steered([RED, GREEN], [None, None])
        whole = len(calls)
        again = it.steered([RED, GREEN], [None, None], kept=[Kept(way, None, 2) for way in out.trajectories])
    steps = it.options(1)["num_inference_steps"]
    assert torch.equal(again, plain)
    assert len(calls) - whole == whole // steps * (steps - 2)


@pytest.mark.parametrize("name", ONE_STAGE)
@pytest.mark.law("editing")
def test_outside_of_the_mask_latents_are_kept_and_other_rows_take_no_notice(name: str) -> None:
    from steering import Kept

    it = asked(name)
    prompts = [RED, PINK]
    plain = it.steered(prompts, [None, None])
    way = recorded(it, prompts).trajectories[0]
    plan = it.swap(GREEN)
    free = it.output_of(prompts, [plan, None])
    kept = it.output_of(prompts, [plan, None], kept=[Kept(way, left_half(it), 0), None])
    changed, whole = torch.as_tensor(kept.images), torch.as_tensor(free.images)
    assert torch.equal(changed[1], plain[1]), "the row beside it"
    assert kept.report[0].fired == free.report[0].fired
    if it.name.startswith("flux"):
        same = (changed[0] == plain[0]).all(-1)
        half = int(same.shape[0] ** 0.5)
        same = same.view(half, half)
    else:
        same = (changed[0] == plain[0]).all(0)
    width = same.shape[1]
    assert same[:, width // 2 :].all()
    assert not same[:, : width // 2].any()
    assert not (whole[0] == plain[0]).all(), "the mask is what kept it"
    assert apart(changed[0], plain[0]) > it.different


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_rows_may_keep_different_numbers_of_steps(name: str) -> None:
    from steering import Kept

    it = asked(name)
    ways = recorded(it, [RED, PINK]).trajectories
    plain = it.steered([RED, PINK], [None, None])
    for starts in ((1, 2), (2, 0)):
        kept = [Kept(w, None, s) for w, s in zip(ways, starts, strict=True)]
        assert torch.equal(it.steered([RED, PINK], [None, None], kept=kept), plain)
    every = it.output_of([RED, PINK], [it.swap(GREEN), None])
    late = it.output_of([RED, PINK], [it.swap(GREEN), None], kept=[Kept(ways[0], None, 2), Kept(ways[1], None, 2)])
    assert {3 * n for n in late.report[0].fired.values()} == set(every.report[0].fired.values())
    assert torch.equal(torch.as_tensor(late.images)[1], plain[1])
    assert apart(late.images[0], plain[0]) > 0


@pytest.mark.parametrize("scheduler", ["dpm", "euler", "ancestral", "heun", "ddim"])
def test_every_scheduler_resumes(scheduler: str) -> None:
    """Those of several evaluations a step, of a memory, and of noise of their own among them."""
    from steering import Kept

    it = on("pixart-alpha", build_pipe(scheduler=scheduler))
    plain = it.steered([RED], [None])
    way = recorded(it, [RED]).trajectories[0]
    assert torch.equal(it.steered([RED], [None], kept=[Kept(way, None, 2)]), plain)


def test_what_is_kept_must_be_of_the_call() -> None:
    from steering import BadPlan, Kept

    it = asked("sdxl")
    way = recorded(it, [RED]).trajectories[0]
    with pytest.raises(BadPlan, match=r"start must be a step in \[0, 2\].*got `3`"):
        Kept(way, None, 3)
    with pytest.raises(BadPlan, match=r"must have the call's timesteps: 6 from .*got 3"):
        it.steered([RED], [None], kept=[Kept(way)], num_inference_steps=6)
    with pytest.raises(BadPlan, match="must have latents"):
        it.steered([RED], [None], kept=[Kept(way, None, 1)], height=32, width=32)
    with pytest.raises(BadPlan, match="num_images_per_prompt must be 1"):
        it.steered([RED], [None], kept=[Kept(way)], num_images_per_prompt=2)
    with pytest.raises(BadPlan, match="kept must have one entry a prompt"):
        it.steered([RED, GREEN], [None, None], kept=[Kept(way)])
    assert torch.equal(it.steered([RED], [None]), it.stock([RED])), "nothing is left of a refused call"


def made_picture(seed: int, size: tuple[int, int]) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def unguided(it: Asked) -> dict[str, Any]:
    options = it.options(1)
    return {k: 1.0 for k in ("guidance_scale", "true_cfg_scale") if k in options and it.name != "flux-dev"}


@pytest.mark.parametrize("name", ["sd1", "sdxl", "sd3", "pixart-alpha", "flux-dev", "sana"])
def test_the_way_back_leads_to_the_picture(name: str) -> None:
    """From the last three steps only: jittered weights are wilder than a model's, and do not contract from far."""
    it = on(name, build_pipe(scheduler="euler")) if name == "pixart-alpha" else on(name)
    options = {k: v for k, v in it.options(1).items() if k != "output_type"} | unguided(it)
    steps = options["num_inference_steps"] = 60
    picture = made_picture(3, (int(options.get("width", 16)), int(options.get("height", 16))))
    ways = it.host.invert([picture, picture], [RED, PINK], first=steps - 3, refine=40, **options)
    assert ways[0].error < 1e-3, "it converges"
    told = forward_of(it, ways[0], RED, options)
    clean = ways[0].latents[-1]
    far = float((ways[0].latents[steps - 3] - clean).norm() / clean.norm())
    near = float((told - clean).norm() / clean.norm())
    assert near < 0.02 * far, (near, far)
    assert apart(ways[0].latents[0], ways[1].latents[0]) > 0, "each way goes by its own prompt"


def forward_of(it: Asked, way: Any, prompt: str, options: dict[str, Any]) -> torch.Tensor:
    from steering import Kept

    out = it.host.generate(
        [prompt], plans=[None], seeds=[0], kept=[Kept(way, None, way.first)], output_type="latent", **options
    )
    return torch.as_tensor(out.images)[0]


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [("euler", "epsilon"), ("ddim", "epsilon"), ("ddim", "v_prediction"), ("euler", "v_prediction")],
)
def test_the_levels_of_a_scheduler_are_those_of_its_own_steps(scheduler: str, kind: str) -> None:
    """A step of the scheduler with a prediction of known noise lands where the levels say."""
    from diffusers import DDIMScheduler, EulerDiscreteScheduler

    from steering.measure.inversion import _told, levels_of

    more = {"clip_sample": False} if scheduler == "ddim" else {}
    made: Any = {"euler": EulerDiscreteScheduler, "ddim": DDIMScheduler}[scheduler](prediction_type=kind, **more)
    made.set_timesteps(7)
    levels = levels_of(made)
    z, n = torch.randn(2, 1, 4, 4, 4).double()
    for k, t in enumerate(made.timesteps):
        a, s, unit = (float(v[k]) for v in (levels.alpha, levels.sigma, levels.unit))
        x = (a * z + s * n) * unit
        got = made.step(_told(kind, z, n, a, s), t, x).prev_sample
        want = (levels.alpha[k + 1] * z + levels.sigma[k + 1] * n) * levels.unit[k + 1]
        last = scheduler == "ddim" and k == 6  # its last step goes to the noise of timestep 0
        assert torch.allclose(got, want, atol=1e-3 if not last else 0.05), k


def test_a_controller_draws_the_way_back_to_its_own_noise_and_a_stranger_shape_is_stretched() -> None:
    """An exception from `on_step` ends it: nobody waits for the picture any more."""
    it = on("sd3")
    options = {k: v for k, v in it.options(1).items() if k != "output_type"} | unguided(it)
    wide = made_picture(5, (48, 16))
    square = wide.resize((int(options["width"]), int(options["height"])), Image.Resampling.LANCZOS)
    told: list[tuple[int, int]] = []
    plain = it.host.invert([wide], [RED], on_step=lambda i, n: told.append((i, n)), **options)[0]
    assert told == [(0, 2), (1, 2)]
    assert torch.equal(plain.latents[-1], it.host.invert([square], [RED], **options)[0].latents[-1])
    goal = torch.randn(plain.latents.shape[1:], generator=torch.Generator().manual_seed(9))
    drawn = it.host.invert([wide], [RED], controller=0.9, seed=9, **options)[0]

    def towards(way: Any) -> float:
        return float(torch.nn.functional.cosine_similarity(way.latents[0].flatten(), goal.flatten(), dim=0))

    assert towards(drawn) > 0.8 > towards(plain)
    with pytest.raises(RuntimeError, match="gone"):
        it.host.invert([wide], [RED], on_step=gone, **options)
    assert torch.equal(it.steered([RED], [None]), it.stock([RED]))


def gone(step: int, steps: int) -> None:
    raise RuntimeError(f"gone at {step} of {steps}")


def test_what_cannot_be_gone_back_is_refused() -> None:
    from steering import BadPlan, NotSupported

    options = {k: v for k, v in asked("sdxl").options(1).items() if k != "output_type"}
    picture = made_picture(0, (16, 16))
    it = on("pixart-alpha", build_pipe(scheduler="heun"))
    with pytest.raises(NotSupported, match="more than once"):
        it.host.invert([picture], [RED], **{k: v for k, v in it.options(1).items() if k != "output_type"})
    for wrong, said in (
        ({"first": 0}, "first must be"),
        ({"refine": -1}, "refine must be"),
        ({"controller": 1.0}, "controller"),
    ):
        with pytest.raises(BadPlan, match=said):
            asked("sdxl").host.invert([picture], [RED], **options, **wrong)


def test_an_edit_keeps_every_pixel_outside_of_its_mask() -> None:
    from steering import BadPlan

    it = on("sdxl")
    options = {k: v for k, v in it.options(1).items() if k != "output_type"}
    height, width = int(options["height"]), int(options["width"])
    mask = np.zeros((height, width), np.float32)
    mask[4:12, 2 : width // 2] = 1
    drawn = it.host.edit((RED, 7), it.swap(GREEN), mask=mask, **options)
    given = it.host.edit(made_picture(1, (width, height)), it.swap(GREEN), prompt=RED, mask=mask, start=2, **options)
    for edit in (drawn, given):
        a, b = (np.asarray(i) for i in (edit.source, edit.image))
        assert np.array_equal(a[mask == 0], b[mask == 0])
        assert not np.array_equal(a[mask > 0], b[mask > 0])
        assert min(edit.report.fired.values()) > 0
    assert np.array_equal(np.asarray(given.source), np.asarray(made_picture(1, (width, height))))
    with pytest.raises(BadPlan, match="prompt must say what a given picture shows"):
        it.host.edit(made_picture(1, (width, height)), it.swap(GREEN), **options)
    with pytest.raises(BadPlan, match=r"a mask must be \["):
        it.host.edit((RED, 7), it.swap(GREEN), mask=mask[1:], **options)


@pytest.mark.parametrize("size", [(64, 48), (200, 150)])
def test_pasted_pixels_outside_are_the_sources(size: tuple[int, int]) -> None:
    from steering import BadPlan, mask_of, paste

    source, other = made_picture(0, size), Image.new("RGB", (64, 48), (255, 0, 0))
    mask = mask_of([(10, 10, 30, 20), (-5, 40, 4, 60)], size)
    image = paste(source, other, mask)
    a, b = np.asarray(source), np.asarray(image)
    assert np.array_equal(a[mask == 0], b[mask == 0])
    assert (b[15, 20] == (255, 0, 0)).all(), "well inside it is the other picture"
    assert (b[45, 0] == (255, 0, 0)).all(), "the picture's rim is no seam"
    for wrong, said in (
        (np.zeros_like(mask), "zero everywhere"),
        (mask * 2, r"values in \[0, 1\]"),
        (mask[:, 1:], "must be"),
    ):
        with pytest.raises(BadPlan, match=said):
            paste(source, other, wrong)


def test_a_mask_is_wider_for_a_longer_word() -> None:
    from steering import mask_of

    box = [(40.0, 20.0, 60.0, 30.0)]
    plain, longer = mask_of(box, (100, 50), grow=0.5), mask_of(box, (100, 50), grow=0.5, longer=2.0)
    assert plain.sum() == 20 * 30
    assert longer.sum() == 20 * 50
    assert mask_of(box, (100, 50), longer=0.5).sum() == mask_of(box, (100, 50)).sum()


@pytest.mark.parametrize("name", [n for n in zoo.CALL if n not in ONE_STAGE])
def test_other_families_write_down_what_resumes(name: str) -> None:
    from steering import Kept

    it = asked(name)
    from steering import NotSupported

    plain = it.steered([RED], [None])
    if name == "sdxl-refiner":
        with pytest.raises(NotSupported, match="begins with a picture"):
            recorded(it, [RED])
        return
    way = recorded(it, [RED]).trajectories[0]
    assert torch.equal(it.steered([RED], [None], kept=[Kept(way, None, len(set(way.timesteps)) - 1)]), plain)
