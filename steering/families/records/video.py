"""Families of videos. Their frames are steered as one picture."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, MaskRule, PooledRule, SiteRule
from steering.families.records.cross_attention import KANDINSKY5
from steering.families.records.founding import SANA
from steering.families.records.one_sequence import COGVIEW3
from steering.families.records.several_encoders import GLYPHS, HUNYUAN_IMAGE, REFINED, REFINERS

__all__ = ["RECORDS"]

_VIDEOS = "num_videos_per_prompt"
_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")
_MASKS = ("prompt_attention_mask", "negative_prompt_attention_mask")
_MASKED = Encode(
    guidance="do_classifier_free_guidance",
    cleared=(*_PROMPTS, *_MASKS),
    returns=("text", "mask", "negative_text", "negative_mask"),
    encoders=("text_encoder",),
    images=_VIDEOS,
)

# of two experts the first draws while there is much noise, the second after it
_WAN = Family(
    name="Wan",
    pipelines=("WanPipeline",),
    denoiser="transformer",
    denoiser_class="WanTransformer3DModel",
    others=("transformer_2",),
    sites=(SiteRule(pattern=r"blocks\.\d+\.attn2", module_class="WanAttention", kind="cross", keys=("to_k", "to_v")),),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text"),
        encoders=("text_encoder",),
        images=_VIDEOS,
    ),
    guidance="sequential",
    pictures=_VIDEOS,
    result="frames",
    projection=("condition_embedder.text_embedder",),
    small_call={"num_frames": 1},
)

_SKYREELS = replace(
    _WAN,
    name="SkyReels V2",
    pipelines=("SkyReelsV2Pipeline",),
    denoiser_class="SkyReelsV2Transformer3DModel",
    others=(),
    sites=(replace(_WAN.sites[0], module_class="SkyReelsV2Attention"),),
)

# each call also knows the time to which it leads
_ANYFLOW = replace(
    _WAN,
    name="AnyFlow",
    pipelines=("AnyFlowPipeline",),
    denoiser_class="AnyFlowTransformer3DModel",
    others=(),
    sites=(replace(_WAN.sites[0], module_class="AnyFlowAttention"),),
    guidance="uncond-first",
)

_LTX = Family(
    name="LTX",
    pipelines=("LTXPipeline",),
    denoiser="transformer",
    denoiser_class="LTXVideoTransformer3DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn2",
            module_class="LTXAttention",
            kind="cross",
            keys=("to_k", "to_v"),
            mask=MaskRule("attention_mask", masked=-10000.0),
        ),
    ),
    encode=_MASKED,
    guidance="uncond-first",
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    result="frames",
    inputs=Inputs(mask="encoder_attention_mask"),
    projection=("caption_projection",),
    small_call={"num_frames": 1},
)

_SANA_VIDEO = replace(
    SANA,
    name="SANA-Video",
    pipelines=("SanaVideoPipeline",),
    denoiser_class="SanaVideoTransformer3DModel",
    encode=_MASKED,
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    result="frames",
    small_call={**SANA.small_call, "frames": 1},
    small_latent=16,
)

_HUNYUAN_VIDEO = Family(
    name="HunyuanVideo",
    pipelines=("HunyuanVideoPipeline",),
    denoiser="transformer",
    denoiser_class="HunyuanVideoTransformer3DModel",
    sites=tuple(rule for rule in HUNYUAN_IMAGE.sites if rule is not GLYPHS),
    encode=Encode(
        guidance=None,
        cleared=("prompt_2", "prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"),
        returns=("text", "pooled", "mask"),
        encoders=("text_encoder", "text_encoder_2"),
        images=_VIDEOS,
    ),
    guidance="sequential",
    pictures=_VIDEOS,
    result="frames",
    inputs=Inputs(mask="encoder_attention_mask", pooled=("pooled_projections",)),
    pooled=(PooledRule("time_text_embed", "pooled_projection"), REFINED),
    small_call={"num_frames": 1},
    negative_scale="true_cfg_scale",  # `guidance_scale` is an input of the denoiser
)

_HUNYUAN_VIDEO15 = Family(
    name="HunyuanVideo 1.5",
    pipelines=("HunyuanVideo15Pipeline",),
    denoiser="transformer",
    denoiser_class="HunyuanVideo15Transformer3DModel",
    sites=(
        REFINERS,
        replace(GLYPHS, module_class="HunyuanVideo15ByT5TextProjection"),
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn",
            module_class="Attention",
            kind="joint",
            keys=("add_k_proj", "add_v_proj"),
            companions=("attention_mask",),
            stream="encoder_hidden_states",
            output="first",
            gate="norm1",
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
        returns=("text", "mask", "glyphs", "glyph_mask"),
        encoders=("text_encoder", "text_encoder_2"),
        images=_VIDEOS,
    ),
    guidance="sequential",
    pictures=None,  # for several of a prompt it forgets to repeat one input
    result="frames",
    inputs=Inputs(mask="encoder_attention_mask", beside=("encoder_hidden_states_2", "encoder_attention_mask_2")),
    pooled=(REFINED,),
    small_call={"num_frames": 1},
)

_COGVIDEO = replace(
    COGVIEW3,
    name="CogVideoX",
    pipelines=("CogVideoXPipeline",),
    denoiser_class="CogVideoXTransformer3DModel",
    encode=replace(COGVIEW3.encode, images=_VIDEOS),
    pictures=None,  # it makes one video of a prompt, whatever is asked for
    result="frames",
    inputs=Inputs(shared=("image_rotary_emb",), axes=(1, 3, 4)),
    small_call={"num_frames": 1},
)

_KANDINSKY5_VIDEO = replace(
    KANDINSKY5,
    name="Kandinsky 5 video",
    pipelines=("Kandinsky5T2VPipeline",),
    encode=replace(KANDINSKY5.encode, images=_VIDEOS),
    result="frames",
    small_call={"num_frames": 1},
)

RECORDS: tuple[Family, ...] = (
    _WAN,
    _SKYREELS,
    _ANYFLOW,
    _LTX,
    _SANA_VIDEO,
    _HUNYUAN_VIDEO,
    _HUNYUAN_VIDEO15,
    _COGVIDEO,
    _KANDINSKY5_VIDEO,
)
