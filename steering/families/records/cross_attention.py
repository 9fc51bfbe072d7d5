"""Families whose picture reads text by cross-attention, or text's keys and values beside its own."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, PooledRule, SiteRule
from steering.families.records.founding import SDXL

__all__ = ["RECORDS"]

_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")

_KOLORS = replace(
    SDXL,
    name="Kolors",
    pipelines=("KolorsPipeline",),
    encode=replace(
        SDXL.encode,
        cleared=(*_PROMPTS, "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
        encoders=("text_encoder",),
    ),
    projection=("encoder_hid_proj",),
)

_COSMOS = Family(
    name="Cosmos 2",
    pipelines=("Cosmos2TextToImagePipeline",),
    denoiser="transformer",
    denoiser_class="CosmosTransformer3DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn2",
            module_class="Attention",
            kind="cross",
            keys=("to_k", "to_v"),
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

# text passes blocks of its own before it is read, and these know the time and the pooled text: a donor needs a row
_KANDINSKY5 = Family(
    name="Kandinsky 5",
    pipelines=("Kandinsky5T2IPipeline",),
    denoiser="transformer",
    denoiser_class="Kandinsky5Transformer3DModel",
    sites=(
        SiteRule(
            pattern=r"visual_transformer_blocks\.\d+\.cross_attention",
            module_class="Kandinsky5Attention",
            kind="joint",
            keys=("to_key", "to_value"),
            queries="to_query",
            out="out_layer",
            stream="text_embed",
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=(),
        returns=("text", "pooled"),
        encoders=("text_encoder", "text_encoder_2"),
    ),
    guidance="sequential",
    pictures=None,  # for several of a prompt it mixes up the pooled texts of a batch
    result="image",
    inputs=Inputs(pooled=("pooled_projections",), shared=("visual_rope_pos", "text_rope_pos", "scale_factor")),
    pooled=PooledRule("pooled_text_embeddings", "text_embed"),
)

# the text of two encoders is joined, and hidden tokens are replaced, before it is read: a donor needs a row
_HUNYUAN_DIT = Family(
    name="HunyuanDiT",
    pipelines=("HunyuanDiTPipeline",),
    denoiser="transformer",
    denoiser_class="HunyuanDiT2DModel",
    sites=(
        SiteRule(
            pattern=r"blocks\.\d+\.attn2",
            module_class="Attention",
            kind="joint",
            keys=("to_k", "to_v"),
            stream="encoder_hidden_states",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=(*_PROMPTS, "prompt_attention_mask", "negative_prompt_attention_mask"),
        returns=("text", "negative_text", "mask", "negative_mask"),
        encoders=("text_encoder_2", "text_encoder"),
        calls=2,
    ),
    guidance="uncond-first",
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    inputs=Inputs(text="encoder_hidden_states_t5", mask="text_embedding_mask_t5", shared=("image_rotary_emb",)),
    pooled=PooledRule("time_extra_emb", "encoder_hidden_states", source="text"),
    small_call={"use_resolution_binning": False},
)

RECORDS: tuple[Family, ...] = (_KOLORS, _COSMOS, _KANDINSKY5, _HUNYUAN_DIT)
