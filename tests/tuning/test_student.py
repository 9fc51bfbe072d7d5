"""Training calls the model as its pipeline does, on every family; noise and target are the scheduler's own.

| law | mutation that turned it red |
|---|---|
| what the pipeline was answered is answered again | timesteps not divided by 1000; texts of another row |
| a clean picture decodes again | no shift, no packing |
| a flow mixes and predicts what diffusers says | the shift left out |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.tuning.conftest import picture

# those that start from noise alone; later stages get a picture of the stage before
NAMES = [n for n in zoo.NAMES if not zoo.extra(n)]


def _host(name: str) -> Any:
    from steering import Host

    return Host(zoo.build(name), defaults={"call": zoo.CALL[name]}, name=name, self_test=False)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "sana-sprint"])
def test_the_model_answers_as_it_answered_its_pipeline(name: str) -> None:
    from tuning import Student

    host = _host(name)
    student = Student(host)
    calls = [host.capture(p, seed=3, at=[0.5])[0] for p in ("a red star", "a green ring")]
    texts = student.texts(["a red star", "a green ring"])
    x = torch.stack([student.latents(c) for c in calls])
    with torch.no_grad():
        told = student.predict(x, torch.tensor([c.timestep for c in calls]), texts)
    for got, call in zip(told, calls, strict=True):
        want = student.trimmed(call.prediction)
        assert got.shape == want.shape
        assert torch.allclose(got, want, atol=2e-4), float((got - want).abs().max())
    assert float((told[0] - told[1]).abs().max()) > 1e-2, "the two prompts are answered differently"


def test_a_distilled_model_with_timesteps_of_its_own_is_refused() -> None:
    from steering import NotSupported
    from tuning import Student

    with pytest.raises(NotSupported, match="timesteps"):
        Student(_host("sana-sprint"))


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux-dev", "pixart-alpha"])
def test_a_picture_becomes_the_latents_that_its_pipeline_decodes(name: str) -> None:
    from steering import latents_of
    from tuning import Student

    host = _host(name)
    student = Student(host)
    made = host.generate(["a red star"], plans=[None], seeds=[1], output_type="latent").images
    size = _size(host)
    latents = latents_of(host.pipe, [picture(5, size[0])], student.shape, size)
    assert latents.shape[1:] == tuple(made.shape[1:])
    assert torch.isfinite(latents).all()
    assert float(latents.std()) > 1e-3


def _size(host: Any) -> tuple[int, int]:
    image = host.generate(["a red star"], plans=[None], seeds=[1]).images[0]
    return image.size


def test_noise_is_mixed_and_predicted_as_the_scheduler_says() -> None:
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    from tuning import noise_of

    class Pipe:
        def __init__(self, scheduler: Any) -> None:
            self.scheduler = scheduler

    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 3, 3, generator=generator), torch.randn(2, 4, 3, 3, generator=generator)
    flow = noise_of(Pipe(FlowMatchEulerDiscreteScheduler(shift=3.0)))
    levels = flow.levels(20_000, torch.Generator().manual_seed(1))
    assert levels.min() > 0
    assert levels.max() < 1
    assert float(levels.median()) == pytest.approx(3 / 4, abs=0.01)  # 3 u / (1 + 2 u) at u = 1/2
    s = torch.tensor([0.25, 0.75])
    x = flow.mix(clean, noise, s)
    assert torch.allclose(x[0], 0.75 * clean[0] + 0.25 * noise[0])
    assert torch.allclose(x - s.view(-1, 1, 1, 1) * flow.target(clean, noise, s), clean, atol=1e-6)
    for kind in ("epsilon", "v_prediction"):
        ddim = DDIMScheduler(prediction_type=kind, clip_sample=False)
        diffusion = noise_of(Pipe(ddim))
        t = torch.tensor([100, 800])
        mixed = diffusion.mix(clean, noise, t)
        target = diffusion.target(clean, noise, t)
        for row in range(2):
            back = ddim_clean(ddim, target[row], int(t[row]), mixed[row])
            assert torch.allclose(back, clean[row], atol=1e-4)
        weights = diffusion.weights(t)
        assert (weights > 0).all()
        assert (weights <= 1).all()


def ddim_clean(scheduler: Any, prediction: torch.Tensor, t: int, x: torch.Tensor) -> torch.Tensor:
    scheduler.set_timesteps(1000)
    found: torch.Tensor = scheduler.step(prediction, t, x).pred_original_sample
    return found


def test_a_scheduler_that_says_nothing_known_is_refused() -> None:
    from steering import NotSupported
    from tuning import noise_of

    class Strange:
        def __init__(self) -> None:
            self.config = {"prediction_type": "sample"}

    with pytest.raises(NotSupported, match="must predict a flow"):
        noise_of(type("Pipe", (), {"scheduler": Strange()})())
