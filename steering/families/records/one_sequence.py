"""Families whose attention reads text and picture as one sequence, through shared projections."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, SiteRule

__all__ = ["COGVIEW3", "RECORDS"]

_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")

# blocks that are given the one sequence
_ONE = SiteRule(
    pattern=r"(layers|transformer_blocks)\.\d+\.attn",
    module_class="Attention",
    kind="joint",
    keys=("to_k", "to_v"),
    text="hidden_states",
    span="first",
    stream="hidden_states",
    stream_span="first",
    output="sequence",
)

# blocks of text alone, before it is joined with the picture
_ALONE = replace(_ONE, kind="text", span="all", stream=None, output="text")

_COGVIEW4 = Family(
    name="CogView4",
    pipelines=("CogView4Pipeline",),
    denoiser="transformer",
    denoiser_class="CogView4Transformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn1",
            module_class="Attention",
            kind="joint",
            keys=("to_k", "to_v"),
            span="first",
            stream="encoder_hidden_states",
            output="first",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
)

COGVIEW3 = replace(
    _COGVIEW4,
    name="CogView3+",
    pipelines=("CogView3PlusPipeline",),
    denoiser_class="CogView3PlusTransformer2DModel",
    guidance="uncond-first",
)

# text lies at the end of room for it, then the picture; guidance is a second denoiser that reads no text
_IDEOGRAM4 = Family(
    name="Ideogram 4",
    pipelines=("Ideogram4Pipeline",),
    denoiser="transformer",
    denoiser_class="Ideogram4Transformer2DModel",
    sites=(
        replace(
            _ONE,
            pattern=r"layers\.\d+\.attention",
            module_class="Ideogram4Attention",
            companions=("attention_mask", "image_rotary_emb"),
        ),
    ),
    encode=Encode(guidance=None, cleared=(), returns=("text",), encoders=("text_encoder",), images=None),
    guidance="sequential",
    pictures=None,
    inputs=Inputs(room="max_sequence_length", beside=("position_ids", "segment_ids", "indicator")),
    small_call={"guidance_schedule": None, "max_sequence_length": 256},
)

# Pictures whose tokens are no multiple of 32 are padded, and by the padding's place their own refiner is told how long
# the row's text is, in steps of 32: then all sites are the donor's but for that
_Z_IMAGE = Family(
    name="Z-Image",
    pipelines=("ZImagePipeline",),
    denoiser="transformer",
    denoiser_class="ZImageTransformer2DModel",
    sites=(
        replace(
            _ALONE,
            pattern=r"context_refiner\.\d+\.attention",
            companions=("attention_mask", "freqs_cis"),
            static=True,
        ),
        replace(
            _ONE,
            pattern=r"layers\.\d+\.attention",
            span="last",
            companions=("attention_mask", "freqs_cis"),
            stream="x",
            stream_span="last",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text"),
        encoders=("text_encoder",),
        images=None,
    ),
    guidance="cond-first",
    pictures=None,
    inputs=Inputs(text="cap_feats", patch="all_patch_size", multiple=32),
    guided_above=0.0,
)

_QWEN_IMAGE_21 = Family(
    name="Qwen-Image 2.1",
    pipelines=("QwenImage21Pipeline",),
    denoiser="transformer",
    denoiser_class="QwenImage21Transformer2DModel",
    sites=(
        replace(_ONE, module_class="QwenImage21Attention", companions=("key_valid", "attention_mask"), static=True),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_embeds_mask", "image_pad_mask"),
        returns=("text", "mask", "pictures"),
        encoders=("text_encoder",),
        longest=True,
    ),
    guidance="sequential",
    inputs=Inputs(
        mask="encoder_hidden_states_mask",
        shared=("img_shapes",),
        cached=("kv_cache_mode", "cached", "kv_cache"),
        along=("img_mask",),
    ),
    negative_scale="true_cfg_scale",
    small_call={"use_kv_cache": True},
)

_ERNIE_IMAGE = Family(
    name="ERNIE-Image",
    pipelines=("ErnieImagePipeline",),
    denoiser="transformer",
    denoiser_class="ErnieImageTransformer2DModel",
    sites=(
        replace(
            _ONE,
            pattern=r"layers\.\d+\.self_attention",
            module_class="ErnieImageAttention",
            span="last",
            companions=("attention_mask", "image_rotary_emb"),
            stream="x",
            stream_span="last",
            stream_rows=1,
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=(),
        returns=("text",),
        encoders=("text_encoder",),
        listed=True,
    ),
    guidance="uncond-first",
    inputs=Inputs(text="text_bth", compared=False),  # lists of texts, padded together
    small_call={"use_pe": False},
)

_KREA2 = Family(
    name="Krea 2",
    pipelines=("Krea2Pipeline",),
    denoiser="transformer",
    denoiser_class="Krea2Transformer2DModel",
    sites=(
        replace(
            _ALONE,
            pattern=r"text_fusion\.refiner_blocks\.\d+\.attn",
            module_class="Krea2Attention",
            companions=("attention_mask",),
        ),
        replace(_ONE, module_class="Krea2Attention", companions=("attention_mask",)),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_embeds_mask"),
        returns=("text", "mask"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    inputs=Inputs(mask="encoder_attention_mask", shared=("position_ids",)),
    guided_above=0.0,
)

_LUMINA2 = Family(
    name="Lumina 2",
    pipelines=("Lumina2Pipeline",),
    denoiser="transformer",
    denoiser_class="Lumina2Transformer2DModel",
    sites=(
        replace(
            _ALONE,
            pattern=r"context_refiner\.\d+\.attn",
            companions=("attention_mask", "image_rotary_emb"),
            static=True,
        ),
        replace(_ONE, pattern=r"layers\.\d+\.attn", companions=("attention_mask", "image_rotary_emb")),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=(*_PROMPTS, "prompt_attention_mask", "negative_prompt_attention_mask"),
        returns=("text", "mask", "negative_text", "negative_mask"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    pictures=None,  # for several pictures of several prompts it gives rows the masks of others
    inputs=Inputs(mask="encoder_attention_mask", ragged="encoder_attention_mask"),
)

_FLUX3 = Family(
    name="FLUX.3",
    pipelines=("ModularFlux3",),
    denoiser="transformer",
    denoiser_class="Flux3Transformer2DModel",
    sites=(
        replace(_ALONE, pattern=r"txt_mode_blocks\.\d+\.attn", module_class="Flux3Attention"),
        replace(
            _ONE,
            pattern=r"single_transformer_blocks\.\d+\.attn",
            module_class="Flux3Attention",
            stream="encoder_hidden_states",
            stream_span="all",
        ),
    ),
    encode=Encode(guidance=None, cleared=(), returns=("text",), encoders=("text_encoder",)),
    guidance="sequential",
    inputs=Inputs(shared=("txt_ids", "img_ids")),
)

RECORDS: tuple[Family, ...] = (
    *(_COGVIEW4, COGVIEW3, _IDEOGRAM4),
    *(_FLUX3, _LUMINA2, _Z_IMAGE, _QWEN_IMAGE_21, _ERNIE_IMAGE, _KREA2),
)
