"""Families whose first blocks keep text and picture as two streams, most of which join them in later blocks."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, SiteRule
from steering.families.records.several_encoders import LAYERS

__all__ = ["RECORDS"]

_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")
_MASKS = ("prompt_attention_mask", "negative_prompt_attention_mask")
_IDS = ("txt_ids", "img_ids")

# text has projections of its own
_DOUBLE = SiteRule(
    pattern=r"transformer_blocks\.\d+\.attn",
    module_class="FluxAttention",
    kind="joint",
    keys=("add_k_proj", "add_v_proj"),
    stream="encoder_hidden_states",
    output="first",
    gate="norm1",
)
# text and picture are joined before the projections, by the block or before it
_SINGLE = SiteRule(
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
)
_JOINED = replace(_SINGLE, stream="hidden_states", stream_span="first")

_FLUX2 = Family(
    name="FLUX.2",
    pipelines=("Flux2Pipeline",),
    denoiser="transformer",
    denoiser_class="Flux2Transformer2DModel",
    sites=(
        replace(_DOUBLE, module_class="Flux2Attention", gate=None),
        replace(
            _JOINED,
            module_class="Flux2ParallelSelfAttention",
            keys=("to_qkv_mlp_proj", "to_qkv_mlp_proj"),
            fused=(1, 2),
            out="to_out",
            out_of_block=False,
            gate=None,
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds",),
        returns=("text", "text_ids"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    inputs=Inputs(shared=_IDS),
)

_KLEIN = replace(_FLUX2, name="FLUX.2 Klein", pipelines=("Flux2KleinPipeline", "Flux2KleinKVPipeline"))

_QWEN_IMAGE = Family(
    name="Qwen-Image",
    pipelines=("QwenImagePipeline",),
    denoiser="transformer",
    denoiser_class="QwenImageTransformer2DModel",
    sites=(replace(_DOUBLE, module_class="Attention", companions=("encoder_hidden_states_mask",), gate=None),),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_embeds_mask"),
        returns=("text", "mask"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    pictures=None,  # for several pictures of several prompts it gives rows the masks of others
    inputs=Inputs(mask="encoder_hidden_states_mask", shared=("img_shapes",)),
    negative_scale="true_cfg_scale",
)

_CHROMA = Family(
    name="Chroma",
    pipelines=("ChromaPipeline",),
    denoiser="transformer",
    denoiser_class="ChromaTransformer2DModel",
    sites=(
        replace(_DOUBLE, companions=("attention_mask",)),
        replace(_JOINED, companions=("attention_mask",)),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=(*_PROMPTS, *_MASKS),
        returns=("text", "text_ids", "mask", "negative_text", "negative_text_ids", "negative_mask"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    inputs=Inputs(shared=_IDS),
)

_AURA_FLOW = Family(
    name="AuraFlow",
    pipelines=("AuraFlowPipeline",),
    denoiser="transformer",
    denoiser_class="AuraFlowTransformer2DModel",
    sites=(
        replace(_DOUBLE, pattern=r"joint_transformer_blocks\.\d+\.attn", module_class="Attention"),
        replace(_JOINED, module_class="Attention", out="to_out.0", out_of_block=False, gate="norm1"),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=(*_PROMPTS, *_MASKS),
        returns=("text", "mask", "negative_text", "negative_mask"),
        encoders=("text_encoder",),
    ),
    guidance="uncond-first",
)

_LONGCAT = Family(
    name="LongCat-Image",
    pipelines=("LongCatImagePipeline",),
    denoiser="transformer",
    denoiser_class="LongCatImageTransformer2DModel",
    sites=(
        replace(_DOUBLE, module_class="LongCatImageAttention"),
        replace(_SINGLE, module_class="LongCatImageAttention"),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds",),
        returns=("text", "text_ids"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    inputs=Inputs(shared=_IDS),
    negatives_each=True,  # without, it gives one row of empty text to a batch, whose rows could not be told apart
    small_call={"enable_prompt_rewrite": False},
)

_OVIS = Family(
    name="Ovis-Image",
    pipelines=("OvisImagePipeline",),
    denoiser="transformer",
    denoiser_class="OvisImageTransformer2DModel",
    sites=(
        replace(_DOUBLE, module_class="OvisImageAttention"),
        replace(_SINGLE, module_class="OvisImageAttention"),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text", "text_ids", "negative_text_ids"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    inputs=Inputs(shared=_IDS),
)

_FIBO = Family(
    name="Bria FIBO",
    pipelines=("BriaFiboPipeline",),
    denoiser="transformer",
    denoiser_class="BriaFiboTransformer2DModel",
    sites=(
        LAYERS,
        replace(_DOUBLE, module_class="BriaFiboAttention", companions=("attention_mask",)),
        replace(_JOINED, module_class="Attention", companions=("attention_mask",)),
    ),
    encode=Encode(
        guidance="guidance_scale",
        cleared=("negative_prompt",),
        returns=("text", "negative_text", "text_ids", "mask", "negative_mask", "layers", "negative_layers"),
        encoders=("text_encoder",),
    ),
    guidance="uncond-first",
    inputs=Inputs(shared=_IDS, beside=("text_encoder_layers",)),
    order=("caption_projection", "transformer_blocks", "single_transformer_blocks"),
)

RECORDS: tuple[Family, ...] = (_FLUX2, _KLEIN, _QWEN_IMAGE, _CHROMA, _AURA_FLOW, _LONGCAT, _OVIS, _FIBO)
