"""Builds tiny real pipelines of every family that is steered: diffusers' own classes, jittered, asked with strings.

No file is read and nothing is fetched. Each has four or more places where text enters, and the U-Nets have them at
two or more widths. `CALL` holds the arguments of a call that takes well under a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from palimpsest_base import torchvision
from tests.steering import zoo_parts as parts

torchvision.install()  # before the first import of diffusers

__all__ = ["CALL", "NAMES", "build", "cut", "extra"]

_JITTER = 0.12
_TEXT = parts.TEXT


def build(name: str, *, seed: int = 0) -> Any:
    """A pipeline of the family, on the CPU in float32; the same for the same seed. Leaves torch's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = _BUILD[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def extra(name: str, *, count: int = 1) -> dict[str, Any]:
    """What a call for `count` prompts needs besides `CALL`: the picture that refiners and upscalers start from."""
    if name not in _PICTURES:
        return {}
    size = _PICTURES[name]
    rows = torch.linspace(-1, 1, size)
    picture = torch.stack([rows[:, None].expand(size, size), rows[None].expand(size, size), rows.outer(rows)])
    return {"image": picture[None].repeat(count, 1, 1, 1)}


def cut(pipe: Any, blocks: int = 2) -> Any:
    """The pipeline with its first blocks and its last one, which SD3 treats in its own way: tracing takes seconds."""
    for kind in ("transformer_blocks", "single_transformer_blocks"):
        all_of_them = getattr(getattr(pipe, "transformer", None), kind, None)
        if all_of_them is not None:
            kept = [*all_of_them[: blocks - 1], all_of_them[-1]]
            setattr(pipe.transformer, kind, torch.nn.ModuleList(kept))
    return pipe


def _unet(**config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    defaults = {"in_channels": 4, "out_channels": 4, "sample_size": 8, "norm_num_groups": 8, "layers_per_block": 1}
    return parts.jitter(UNet2DConditionModel(**(defaults | config)), _JITTER)


def _sd(prediction: str, **config: Any) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    tokenizer = parts.clip_tokenizer()
    unet = _unet(
        block_out_channels=(16, 32, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        **config,
    )
    return StableDiffusionPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd1() -> Any:
    return _sd("epsilon", attention_head_dim=2)


def _sd2() -> Any:
    return _sd("v_prediction", attention_head_dim=(2, 4, 4), use_linear_projection=True)


def _sdxl_unet(text: int, ids: int, pooled: int) -> Any:
    return _unet(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * ids + pooled,
        cross_attention_dim=text,
    )


def _sdxl_scheduler() -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )


def _sdxl() -> Any:
    from diffusers import StableDiffusionXLPipeline

    first, second = parts.clip_tokenizer(), parts.clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip(first),
        text_encoder_2=parts.clip(second, projected=True),
        tokenizer=first,
        tokenizer_2=second,
        unet=_sdxl_unet(text=32, ids=6, pooled=16),
        scheduler=_sdxl_scheduler(),
        add_watermarker=False,
    )


def _sdxl_refiner() -> Any:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    tokenizer = parts.clip_tokenizer()
    return StableDiffusionXLImg2ImgPipeline(
        vae=parts.vae(),
        text_encoder=None,
        text_encoder_2=parts.clip(tokenizer, projected=True),
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=_sdxl_unet(text=16, ids=5, pooled=16),
        scheduler=_sdxl_scheduler(),
        requires_aesthetics_score=True,
        add_watermarker=False,
    )


def _if_unet(**config: Any) -> Any:
    return _unet(
        out_channels=6,  # the second three are the learned variance
        block_out_channels=(32, 32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=8,
        act_fn="gelu",
        resnet_time_scale_shift="scale_shift",
        resnet_skip_time_act=True,
        cross_attention_dim=32,
        cross_attention_norm="group_norm",  # of 32 groups
        encoder_hid_dim=16,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        norm_num_groups=32,
        **config,
    )


def _if_parts() -> dict[str, Any]:
    from diffusers import DDPMScheduler
    from transformers import ByT5Tokenizer

    return {
        "tokenizer": ByT5Tokenizer(),
        "text_encoder": parts.t5(),
        "scheduler": DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.5,
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }


def _if1() -> Any:
    from diffusers import IFPipeline

    return IFPipeline(unet=_if_unet(in_channels=3), **_if_parts())


def _if2() -> Any:
    from diffusers import DDPMScheduler, IFSuperResolutionPipeline

    unet = _if_unet(
        in_channels=6,
        class_embed_type="timestep",
        only_cross_attention=True,  # keys and values of text alone, where stage I joins them to the picture's
        time_embedding_act_fn="gelu",
        resnet_out_scale_factor=1 / 0.7071,
        mid_block_scale_factor=1 / 0.7071,
    )
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return IFSuperResolutionPipeline(unet=unet, image_noising_scheduler=noising, **_if_parts())


def _if3() -> Any:
    """Stage III as released: the latent upscaler, most of whose blocks read text in place of the picture too."""
    from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline

    tokenizer = parts.clip_tokenizer()
    unet = _unet(
        in_channels=7,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        only_cross_attention=(True, True, False),
        attention_head_dim=2,
        use_linear_projection=True,
        num_class_embeds=1000,
        cross_attention_dim=16,
    )
    return StableDiffusionUpscalePipeline(
        vae=parts.vae(3, scaling_factor=0.08333),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        low_res_scheduler=DDPMScheduler(beta_schedule="scaled_linear"),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
        ),
        max_noise_level=350,
    )


def _sd3(**config: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import ByT5Tokenizer

    first, second = parts.clip_tokenizer(), parts.clip_tokenizer()
    denoiser = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=5,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
        **config,
    )
    return StableDiffusion3Pipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=parts.vae(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=parts.clip(first, projected=True),
        tokenizer=first,
        text_encoder_2=parts.clip(second, projected=True),
        tokenizer_2=second,
        text_encoder_3=parts.t5(32),
        tokenizer_3=ByT5Tokenizer(),
    )


def _sd35() -> Any:
    return _sd3(qk_norm="rms_norm", dual_attention_layers=(0, 1, 2))


def _pixart(sigma: bool) -> Any:
    from diffusers import (
        DPMSolverMultistepScheduler,
        PixArtAlphaPipeline,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )
    from transformers import ByT5Tokenizer

    denoiser = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=4,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=16,
        in_channels=4,
        out_channels=8,  # the second four are the learned variance
        cross_attention_dim=32,
        use_additional_conditions=False,
        norm_type="ada_norm_single",
    )
    return (PixArtSigmaPipeline if sigma else PixArtAlphaPipeline)(
        tokenizer=ByT5Tokenizer(),
        text_encoder=parts.t5(),
        vae=parts.vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        # flow, as later checkpoints: three steps of noise prediction would leave latents in the hundreds
        scheduler=DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    )


def _flux(guidance: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import ByT5Tokenizer

    tokenizer = parts.clip_tokenizer()
    denoiser = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=3,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance),
        vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=parts.t5(),
        tokenizer_2=ByT5Tokenizer(),
        transformer=parts.jitter(denoiser, _JITTER),
    )


def _sana(sprint: bool) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SanaPipeline,
        SanaSprintPipeline,
        SanaTransformer2DModel,
        SCMScheduler,
    )

    tokenizer = parts.gemma_tokenizer()
    denoiser = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=16,
        sample_size=8,
        guidance_embeds=sprint,
        qk_norm="rms_norm_across_heads" if sprint else None,
    )
    return (SanaSprintPipeline if sprint else SanaPipeline)(
        tokenizer=tokenizer,
        text_encoder=parts.gemma(tokenizer),
        vae=parts.deep_vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
        if sprint
        else FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


_BUILD: dict[str, Callable[[], Any]] = {
    "sd1": _sd1,
    "sd2": _sd2,
    "sdxl": _sdxl,
    "sdxl-refiner": _sdxl_refiner,
    "if1": _if1,
    "if2": _if2,
    "if3": _if3,
    "sd3": _sd3,
    "sd35": _sd35,
    "pixart-alpha": lambda: _pixart(sigma=False),
    "pixart-sigma": lambda: _pixart(sigma=True),
    "flux-dev": lambda: _flux(guidance=True),
    "flux-schnell": lambda: _flux(guidance=False),
    "sana": lambda: _sana(sprint=False),
    "sana-sprint": lambda: _sana(sprint=True),
}
NAMES = tuple(_BUILD)

_PICTURES = {"sdxl-refiner": 16, "if2": 8, "if3": 8}  # rows and columns
_SIZE = {"height": 16, "width": 16}
_BASE = _SIZE | {"num_inference_steps": 3, "guidance_scale": 3.0}
_PIXART = _BASE | {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": _TEXT}
_FLUX = _SIZE | {"num_inference_steps": 3, "max_sequence_length": _TEXT}
_SANA = {
    "height": 32,
    "width": 32,
    "use_resolution_binning": False,
    "complex_human_instruction": None,
    "max_sequence_length": _TEXT,
}
CALL: dict[str, dict[str, Any]] = {
    "sd1": _BASE,
    "sd2": _BASE,
    "sdxl": _BASE,
    "sdxl-refiner": {"num_inference_steps": 6, "strength": 0.5, "guidance_scale": 3.0},
    "if1": _BASE | {"clean_caption": False},
    "if2": _BASE | {"clean_caption": False, "noise_level": 100},
    "if3": {"num_inference_steps": 3, "guidance_scale": 3.0, "noise_level": 20},
    "sd3": _BASE | {"max_sequence_length": _TEXT},
    "sd35": _BASE | {"max_sequence_length": _TEXT},
    "pixart-alpha": _PIXART,
    "pixart-sigma": _PIXART,
    "flux-dev": _FLUX | {"guidance_scale": 3.5},
    "flux-schnell": _FLUX | {"guidance_scale": 0.0},
    "sana": _SANA | {"num_inference_steps": 3, "guidance_scale": 3.0},
    "sana-sprint": _SANA | {"num_inference_steps": 2, "guidance_scale": 4.5},
}
