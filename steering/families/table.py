"""What is known of each model family, as data; `description` has the types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steering.errors import BadFamily, NotSupported
from steering.families.description import DISTILLED, Encode, Family, Inputs, MaskRule, PooledRule, SiteRule

__all__ = ["FAMILIES", "check_families", "family_of", "known_family", "refuse_by_name"]

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

_SDXL = Family(
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
    pooled=PooledRule("add_embedding", "sample", leading=True),
    order=_UNET,
    distilled=DISTILLED,
)

_REFINER = replace(
    _SDXL,
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
    pooled=PooledRule("add_embedding", "hidden_states", source="text"),
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
    pooled=PooledRule("time_text_embed", "pooled_projection"),
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
    pooled=PooledRule("time_text_embed", "pooled_projection"),
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

_SANA = replace(
    _PIXART,
    name="SANA",
    pipelines=("SanaPipeline",),
    denoiser_class="SanaTransformer2DModel",
    projection=("caption_projection", "caption_norm"),
)

_SANA_SPRINT = replace(
    _SANA,
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

FAMILIES: tuple[Family, ...] = (
    _STABLE_DIFFUSION,
    _UPSCALER,
    _SDXL,
    _REFINER,
    _IF,
    _IF_UPSCALER,
    _SD3,
    _PIXART,
    _PIXART_ALPHA,
    _FLUX,
    _SANA,
    _SANA_SPRINT,
)

# pipelines that are refused by name, by a part of their name, with the reason
_REFUSED = {
    "ControlNet": "its ControlNet has text inputs of its own, through which a concept would come back",
    "Adapter": "its adapter is a second model that is not watched",
    "PAG": "perturbed guidance adds rows to the batch that no plan is laid out for",
    "Onnx": "an ONNX graph has no modules to steer",
}


def known_family(pipeline_class: type, families: Sequence[Family] = ()) -> Family | None:
    """The family of a pipeline class or of the nearest class that it is derived from, or None.

    families: records of the caller beside those of this table. Raises: BadFamily, for records that cannot be used;
    NotSupported, for a pipeline that is refused by name, whatever the records say.
    """
    check_families(families)
    refuse_by_name(pipeline_class.__name__)
    for base in pipeline_class.__mro__:
        for family in (*FAMILIES, *families):
            if base.__name__ in family.pipelines:
                return family
    return None


def check_families(families: Sequence[Family]) -> None:
    """Nothing, when a caller's records describe pipeline classes that no other record describes. Raises: BadFamily."""
    owners = {pipeline: family.name for family in FAMILIES for pipeline in family.pipelines}
    for family in families:
        if not isinstance(family, Family):
            raise BadFamily(f"families must hold `Family` records, got `{type(family).__name__}`")
        for pipeline in family.pipelines:
            if pipeline in owners:
                raise BadFamily(
                    f"family `{family.name}` must not describe `{pipeline}`, which family `{owners[pipeline]}`"
                    " describes; describe a class derived from it"
                )
            owners[pipeline] = family.name


def refuse_by_name(pipeline_class: str) -> None:
    """Nothing, unless a pipeline is known not to be steerable, by the name of its class. Raises: NotSupported."""
    for part, reason in _REFUSED.items():
        if part in pipeline_class:
            raise NotSupported(f"pipeline `{pipeline_class}` cannot be steered: {reason}")


def family_of(pipeline_class: str) -> Family:
    """The family of a pipeline class, by its name. Raises: NotSupported."""
    for family in FAMILIES:
        if pipeline_class in family.pipelines:
            return family
    supported = ", ".join(f"{f.name} ({', '.join(f.pipelines)})" for f in FAMILIES)
    raise NotSupported(f"pipeline `{pipeline_class}` is of no known family; known: {supported}")
