"""Builds tiny real PixArt pipelines: diffusers' own classes, jittered so that no law holds because nothing happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from palimpsest_base import torchvision

torchvision.install()  # before the first import of diffusers

TEXT = 24  # tokens that a tiny call has room for
CALL = {
    "height": 16,
    "width": 16,
    "num_inference_steps": 4,
    "guidance_scale": 3.0,
    "call": {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": TEXT},
}
RED, GREEN, PINK = "a red star", "green ring, sign 42", "pink moon"
_FOUND: pytest.StashKey[Any] = pytest.StashKey()  # what this run says of families, for the table of families


def build_pipe(kind: str = "alpha", scheduler: str = "dpm", blocks: int = 4, seed: int = 0) -> Any:
    """A jittered PixArt pipeline of four blocks of 32, with 8 x 8 latents and a byte tokenizer."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        PixArtAlphaPipeline,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    torch.manual_seed(seed)
    denoiser = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=blocks,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=16,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=32,
        use_additional_conditions=False,
        norm_type="ada_norm_single",
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=16,
    )
    encoder = T5EncoderModel(
        T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    )
    for module, amount in ((denoiser, 0.12), (vae, 0.05), (encoder, 0.1)):
        for parameter in module.parameters():
            parameter.data.add_(amount * torch.randn_like(parameter))
        module.eval()
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    schedulers: dict[str, Callable[[], Any]] = {
        "dpm": lambda: DPMSolverMultistepScheduler(**flow),
        "euler": lambda: EulerDiscreteScheduler(),
        "ancestral": lambda: EulerAncestralDiscreteScheduler(),
        "heun": lambda: HeunDiscreteScheduler(),
        "ddim": lambda: DDIMScheduler(),  # keeps no step index
    }
    pipeline = {"alpha": PixArtAlphaPipeline, "sigma": PixArtSigmaPipeline}[kind]
    pipe = pipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=encoder,
        vae=vae,
        transformer=denoiser,
        scheduler=schedulers[scheduler](),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pipe() -> Any:
    """One pipeline for all tests that leave it as it was."""
    return build_pipe()


@pytest.fixture(scope="session")
def host(pipe: Any) -> Any:
    """A host on it; its self-test has run."""
    from steering import Host

    return Host(pipe, defaults=CALL, name="tiny")


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """Builds a pipeline of its own, for tests that break or change it."""
    return build_pipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A diffusers folder with defaults beside it, weights in half precision."""
    import json

    target = tmp_path / "tiny-pixart"
    pipe = build_pipe()
    pipe.to(torch.float16)
    pipe.save_pretrained(target)
    (target / "defaults.json").write_text(json.dumps(CALL))
    return target


class Ask:
    """Asks a host, or the stock pipeline beside it, for latents of a few prompts under the tests' small call."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.names = tuple(s.name for s in host.sites)

    def steered(
        self, prompts: list[str], plans: list[Any], seeds: list[int] | None = None, **more: Any
    ) -> torch.Tensor:
        """Latents from `Host.generate`."""
        options = {"output_type": "latent"} | more
        return self.host.generate(prompts, plans=plans, seeds=seeds or [7] * len(prompts), **options).images

    def stock(self, prompts: list[str], seeds: list[int] | None = None, **more: Any) -> torch.Tensor:
        """Latents from the pipeline itself, called as its own documentation says."""
        count = more.get("num_images_per_prompt", 1)
        each = [s + k for s in (seeds or [7] * len(prompts)) for k in range(count)]
        generators = [torch.Generator("cpu").manual_seed(s) for s in each]
        options = {"output_type": "latent"} | self.host.defaults.arguments() | more
        return self.host.pipe(prompt=prompts, generator=generators, **options).images

    def swap(self, donor: Any, sites: Any = None, **more: Any) -> Any:
        """A plan with one swap, at all sites unless told which."""
        from steering import Plan, Swap

        return Plan(Swap(donor, sites=sites or self.names, **({"pooled": "keep"} | more)))


@pytest.fixture(scope="session")
def ask(host: Any) -> Ask:
    """Asks the tests' host."""
    return Ask(host)


@pytest.fixture(scope="session", params=["alpha", "sigma"])
def family(request: pytest.FixtureRequest) -> Ask:
    """Asks a host of each pipeline class."""
    from steering import Host

    return Ask(Host(build_pipe(request.param, seed=3), defaults=CALL, name=f"tiny-{request.param}"))


# the table of families


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--families-table", default=None, help="a Markdown file whose table of families is written anew")


def pytest_configure(config: pytest.Config) -> None:
    from tests.steering.families_table import Found

    config.stash[_FOUND] = Found()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    from tests.steering.families_table import law_of

    report: Any = yield
    law = law_of(item)
    if law is not None and (report.when == "call" or report.failed):
        item.config.stash[_FOUND].add(law[0], passed=report.passed, refused=law[1])
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    from tests.steering.families_table import checked, render, written

    file = session.config.getoption("families_table", None)
    if file is None:
        return
    found = session.config.stash[_FOUND]
    missing = sorted(checked() - set(found.passed))
    if missing:
        pytest.exit(f"the table needs a run of `tests/steering -m law`; not run: {missing}", returncode=4)
    path = Path(file)
    path.write_text(written(path.read_text("utf-8"), render(found)), "utf-8")
