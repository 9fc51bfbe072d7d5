"""Families whose picture reads text by cross-attention, or text's keys and values beside its own."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, MaskRule, PooledRule, SiteRule
from steering.families.records.founding import SDXL

__all__ = ["KANDINSKY5", "RECORDS"]

_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")
_MASKED = Encode(
    guidance="do_classifier_free_guidance",
    cleared=(*_PROMPTS, "prompt_attention_mask", "negative_prompt_attention_mask"),
    returns=("text", "mask", "negative_text", "negative_mask"),
    encoders=("text_encoder",),
)

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

# text passes blocks of its own before it is read, and these know the time and the pooled text: a donor needs a row, or
# a recording, which is exact
KANDINSKY5 = Family(
    name="Kandinsky 5",
    pipelines=("Kandinsky5T2IPipeline",),
    denoiser="transformer",
    denoiser_class="Kandinsky5Transformer3DModel",
    sites=(
        SiteRule(
            pattern=r"text_transformer_blocks\.\d+\.self_attention",
            module_class="Kandinsky5Attention",
            kind="text",
            keys=("to_key", "to_value"),
            text="hidden_states",
            queries="to_query",
            out="out_layer",
            output="text",
        ),
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
    pooled=(PooledRule("pooled_text_embeddings", "text_embed"),),
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
    inputs=Inputs(
        text="encoder_hidden_states_t5",
        mask="text_embedding_mask_t5",
        beside=("encoder_hidden_states", "text_embedding_mask"),
        shared=("image_rotary_emb",),
    ),
    pooled=(PooledRule("time_extra_emb", "encoder_hidden_states", source="text"),),
    small_call={"use_resolution_binning": False},
)

# one projection makes keys and values of the text, which is the same in every block and step
_PRX = Family(
    name="PRX",
    pipelines=("PRXPipeline",),
    denoiser="transformer",
    denoiser_class="PRXTransformer2DModel",
    sites=(
        SiteRule(
            pattern=r"blocks\.\d+\.attention",
            module_class="PRXAttention",
            kind="cross",
            keys=("txt_kv_proj", "txt_kv_proj"),
            fused=(0, 1),
            mask=MaskRule("attention_mask"),
        ),
    ),
    encode=_MASKED,
    guidance="uncond-first",
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    inputs=Inputs(mask="attention_mask"),
    projection=("txt_in",),
    # with guidance the pipeline takes one prompt a call, and the self-test has several
    small_call={"use_resolution_binning": False, "guidance_scale": 1.0},
)

_LUMINA_NEXT = Family(
    name="Lumina-Next",
    pipelines=("LuminaPipeline",),
    denoiser="transformer",
    denoiser_class="LuminaNextDiT2DModel",
    sites=(
        SiteRule(
            pattern=r"layers\.\d+\.attn2",
            module_class="Attention",
            kind="cross",
            keys=("to_k", "to_v"),
            mask=MaskRule("attention_mask"),
            before="norm1_context",
            output="heads",
            out_of_block=True,
        ),
    ),
    encode=replace(_MASKED, longest=True),
    guidance="cond-first",
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    inputs=Inputs(mask="encoder_mask", shared=("image_rotary_emb",)),
    pooled=(PooledRule("time_caption_embed", "caption_feat", source="text", mask=MaskRule("caption_mask")),),
    small_call={"clean_caption": False},
)

_KANDINSKY3 = Family(
    name="Kandinsky 3",
    pipelines=("Kandinsky3Pipeline",),
    denoiser="unet",
    denoiser_class="Kandinsky3UNet",
    sites=(
        SiteRule(
            pattern=r"(down|up)_blocks\.\d+\.attentions\.[1-9]\d*\.attention",  # the first reads the picture
            module_class="Attention",
            kind="cross",
            keys=("to_k", "to_v"),
            mask=MaskRule("attention_mask", masked=-10000.0),
        ),
    ),
    encode=replace(
        _MASKED,
        cleared=(*_PROMPTS, "attention_mask", "negative_attention_mask"),
        returns=("text", "negative_text", "mask", "negative_mask"),
        longest=True,
    ),
    guidance="uncond-first",
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    inputs=Inputs(mask="encoder_attention_mask"),
    projection=("encoder_hid_proj",),
    pooled=(
        PooledRule(
            "add_time_condition",
            "context",
            source="text",
            projected=True,
            mask=MaskRule("context_mask", masked=-10000.0),
        ),
    ),
)

# each block projects the text anew, and what of it is hidden lies in one mask with the picture: a donor needs a row
_NUCLEUS = Family(
    name="Nucleus",
    pipelines=("NucleusMoEImagePipeline",),
    denoiser="transformer",
    denoiser_class="NucleusMoEImageTransformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn",
            module_class="Attention",
            kind="joint",
            keys=("add_k_proj", "add_v_proj"),
            companions=("attention_mask",),
            stream="encoder_hidden_states",
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_embeds_mask"),
        returns=("text", "mask"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
    inputs=Inputs(mask="encoder_hidden_states_mask", shared=("img_shapes",)),
)

RECORDS: tuple[Family, ...] = (
    _KOLORS,
    _COSMOS,
    KANDINSKY5,
    _HUNYUAN_DIT,
    _PRX,
    _LUMINA_NEXT,
    _KANDINSKY3,
    _NUCLEUS,
)
