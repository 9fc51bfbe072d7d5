"""The families of the founding papers: U-Nets, two streams, and transformers with cross-attention."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import DISTILLED, Encode, Family, Inputs, MaskRule, PooledRule, SiteRule

__all__ = ["RECORDS", "SANA", "SDXL"]

_UNET = ("down_blocks", "mid_block", "up_blocks")
_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")
_MASKS = ("prompt_attention_mask", "negative_prompt_attention_mask")
_POOLED = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")

_UNET_CROSS = SiteRule(
    pattern=r".*attentions\.\d+\.transformer_blocks\.\d+\.attn[12]",
    module_class="Attention",
    kind="cross",
    keys=("to_k", "to_v"),
    if_cross=True,
)

_STABLE_DIFFUSION = Family(
    name="Stable Diffusion",
    pipelines=("StableDiffusionPipeline",),
    denoiser="unet",
    denoiser_class="UNet2DConditionModel",
    sites=(_UNET_CROSS,),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text"),
        encoders=("text_encoder",),
    ),
    guidance="uncond-first",
    order=_UNET,
    distilled=DISTILLED,
)

_UPSCALER = replace(
    _STABLE_DIFFUSION,
    name="Stable Diffusion upscaler",
    pipelines=("StableDiffusionUpscalePipeline",),
    image="picture",
)

SDXL = Family(
    name="Stable Diffusion XL",
    pipelines=("StableDiffusionXLPipeline",),
    denoiser="unet",
    denoiser_class="UNet2DConditionModel",
    sites=(_UNET_CROSS,),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=("prompt_2", "negative_prompt_2", *_PROMPTS, *_POOLED),
        returns=("text", "negative_text", "pooled", "negative_pooled"),
        encoders=("text_encoder_2", "text_encoder"),
    ),
    guidance="uncond-first",
    inputs=Inputs(pooled=("added_cond_kwargs", "text_embeds")),
    pooled=(PooledRule("add_embedding", "sample", leading=True),),
    order=_UNET,
    distilled=DISTILLED,
)

_REFINER = replace(
    SDXL,
    name="Stable Diffusion XL refiner",
    pipelines=("StableDiffusionXLImg2ImgPipeline",),
    image="latents",
    small_call={"strength": 1.0},
)

_IF = Family(
    name="DeepFloyd IF",
    pipelines=("IFPipeline",),
    denoiser="unet",
    denoiser_class="UNet2DConditionModel",
    sites=(
        SiteRule(
            pattern=r".*attentions\.\d+",
            module_class="Attention",
            kind="cross",
            keys=("add_k_proj", "add_v_proj"),
            output="channels",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text"),
        encoders=("text_encoder",),
    ),
    guidance="uncond-first",
    projection=("encoder_hid_proj",),
    pooled=(PooledRule("add_embedding", "hidden_states", source="text"),),
    order=_UNET,
    distilled=DISTILLED,
    handed_on="pt",
    small_call={"clean_caption": False},
    small_latent=4,  # of pixels, eight times as many
)

_IF_UPSCALER = replace(_IF, name="DeepFloyd IF upscaler", pipelines=("IFSuperResolutionPipeline",), image="picture")

_SD3 = Family(
    name="Stable Diffusion 3",
    pipelines=("StableDiffusion3Pipeline",),
    denoiser="transformer",
    denoiser_class="SD3Transformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn",
            module_class="Attention",
            kind="joint",
            keys=("add_k_proj", "add_v_proj"),
            stream="encoder_hidden_states",
            output="first",
            gate="norm1",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=("prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3", *_PROMPTS, *_POOLED),
        returns=("text", "negative_text", "pooled", "negative_pooled"),
        encoders=("text_encoder", "text_encoder_2", "text_encoder_3"),
    ),
    guidance="uncond-first",
    inputs=Inputs(pooled=("pooled_projections",), skips="skip_layers"),
    pooled=(PooledRule("time_text_embed", "pooled_projection"),),
)

_FLUX = Family(
    name="FLUX",
    pipelines=("FluxPipeline",),
    denoiser="transformer",
    denoiser_class="FluxTransformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn",
            module_class="FluxAttention",
            kind="joint",
            keys=("add_k_proj", "add_v_proj"),
            stream="encoder_hidden_states",
            output="first",
            gate="norm1",
        ),
        SiteRule(
            pattern=r"single_transformer_blocks\.\d+\.attn",
            module_class="FluxAttention",
            kind="joint",
            keys=("to_k", "to_v"),
            text="hidden_states",
            span="first",
            stream="encoder_hidden_states",
            output="sequence",
            out="proj_out",
            out_of_block=True,
            gate="norm",
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_2", "prompt_embeds", "pooled_prompt_embeds"),
        returns=("text", "pooled", "text_ids"),
        encoders=("text_encoder_2", "text_encoder"),
    ),
    guidance="sequential",
    inputs=Inputs(pooled=("pooled_projections",), shared=("txt_ids", "img_ids")),
    pooled=(PooledRule("time_text_embed", "pooled_projection"),),
    negative_scale="true_cfg_scale",  # `guidance_scale` is an input of the denoiser
)

_MASKED_CROSS = SiteRule(
    pattern=r"transformer_blocks\.\d+\.attn2",
    module_class="Attention",
    kind="cross",
    keys=("to_k", "to_v"),
    mask=MaskRule("attention_mask", masked=-10000.0),
)

_PIXART = Family(
    name="PixArt",
    pipelines=("PixArtSigmaPipeline",),
    denoiser="transformer",
    denoiser_class="PixArtTransformer2DModel",
    sites=(_MASKED_CROSS,),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=(*_PROMPTS, *_MASKS),
        returns=("text", "mask", "negative_text", "negative_mask"),
        encoders=("text_encoder",),
    ),
    guidance="uncond-first",
    inputs=Inputs(mask="encoder_attention_mask"),
    projection=("caption_projection",),
    small_call={"use_resolution_binning": False, "clean_caption": False},
)

# of a single step this pipeline reads a second result of the scheduler, which most schedulers do not give
_PIXART_ALPHA = replace(
    _PIXART,
    name="PixArt alpha",
    pipelines=("PixArtAlphaPipeline",),
    fewest_steps=2,
    one_step_schedulers=("LCMScheduler", "DDPMScheduler"),
)

SANA = replace(
    _PIXART,
    name="SANA",
    pipelines=("SanaPipeline",),
    denoiser_class="SanaTransformer2DModel",
    projection=("caption_projection", "caption_norm"),
)

_SANA_SPRINT = replace(
    SANA,
    name="SANA-Sprint",
    pipelines=("SanaSprintPipeline",),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_attention_mask"),
        returns=("text", "mask"),
        encoders=("text_encoder",),
    ),
    spare_timesteps=1,
)

RECORDS: tuple[Family, ...] = (
    _STABLE_DIFFUSION,
    _UPSCALER,
    SDXL,
    _REFINER,
    _IF,
    _IF_UPSCALER,
    _SD3,
    _PIXART,
    _PIXART_ALPHA,
    _FLUX,
    SANA,
    _SANA_SPRINT,
)
