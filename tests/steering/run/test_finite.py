"""What is not finite is no picture: NaN or infinity in latents or decoded values is an error in every family.

| law | mutation that turned it red |
|---|---|
| a decoder that gives NaN is an error | `image_processor.postprocess` not looked at; for IF `numpy_to_pil` |
| latents that are not finite are told from decoded values | `vae.decode` not looked at |
| pictures that leave as latents are looked at, too | `check_finite` of what the pipeline gave removed |
| a look changes no bit | a look that returns `torch.nan_to_num` of what it saw |
| the self-test finds a decoder that gives NaN | `_decoded` without its call |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

FAMILIES = ("sd1", "sdxl", "sd3", "flux-dev", "pixart-sigma", "sana", "if1")


def host_of(name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    from steering import Host
    from tests.steering import zoo

    given = zoo.CALL[name] | zoo.extra(name)
    return Host(zoo.build(name), name=name, self_test=options.get("self_test", False)), given


def last_of_the_decoder(pipe: Any) -> torch.nn.Parameter:
    """A number that the decoded picture is made with; of pipelines that denoise pixels, one of the denoiser."""
    part = pipe.vae.decoder if hasattr(pipe, "vae") else pipe.unet
    return next(p for p in reversed(list(part.parameters())) if p.ndim == 1)


def picture(host: Any, given: dict[str, Any], **more: Any) -> Any:
    return host.generate(["a red star"], plans=[None], seeds=[3], **given | more).images[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_decoder_whose_values_are_not_finite_gives_an_error_and_no_picture(name: str, value: float) -> None:
    from steering import BrokenPicture

    host, given = host_of(name)
    assert np.asarray(picture(host, given)).std() > 1  # it is not flat for another reason
    last_of_the_decoder(host.pipe).data[0] = value
    for output_type in ("pil", "np", "pt"):
        with pytest.raises(
            BrokenPicture, match=r"decoded values of a picture must be finite .* row 0 are not"
        ) as error:
            picture(host, given, output_type=output_type)
        assert (error.value.cause, error.value.rows) == ("decoded", (0,))
    assert not {"decode", "postprocess", "numpy_to_pil"} & {
        k for part in (host.pipe, getattr(host.pipe, "vae", None), getattr(host.pipe, "image_processor", None)) if part
        for k in vars(part)
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sdxl", "flux-dev", "pixart-sigma"])
def test_latents_that_are_not_finite_are_told_with_their_row(name: str) -> None:
    from steering import BrokenPicture

    host, given = host_of(name)
    step = host.pipe.scheduler.step

    def broken(*args: Any, **kwargs: Any) -> Any:
        latents, *more = step(*args, **kwargs)
        latents = latents.clone()
        latents[1, ..., 0] = float("inf")
        return (latents, *more)

    host.pipe.scheduler.step = broken
    for output_type in ("pil", "latent"):
        with pytest.raises(BrokenPicture, match="latents of a picture") as error:
            host.generate(["red", "green", "pink"], plans=[None] * 3, seeds=[1, 2, 3], **given, output_type=output_type)
        assert error.value.cause == "latents"
        assert 1 in error.value.rows


@pytest.mark.parametrize("name", FAMILIES)
def test_the_look_changes_no_bit(name: str) -> None:
    host, given = host_of(name)
    stock = host.pipe(prompt=["a red star"], generator=[torch.Generator().manual_seed(3)], **given).images[0]
    assert np.array_equal(np.asarray(picture(host, given)), np.asarray(stock))


def test_a_picture_of_one_colour_is_a_picture() -> None:
    host, given = host_of("pixart-sigma")
    for parameter in host.pipe.vae.decoder.conv_out.parameters():
        parameter.data.zero_()
    assert len(np.unique(np.asarray(picture(host, given)))) == 1


@pytest.mark.parametrize("name", ["sdxl", "sd3", "if1"])
def test_the_self_test_finds_a_decoder_that_gives_nan(name: str) -> None:
    host, _ = host_of(name)
    assert host.self_test().passed
    last_of_the_decoder(host.pipe).data[0] = float("nan")
    tested = host.self_test()
    assert not tested.passed
    assert "must be finite numbers" in tested.failures()
