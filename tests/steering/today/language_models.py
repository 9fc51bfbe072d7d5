"""Builds tiny language models that read prompts for a denoiser, with a tokenizer that no file is read for.

Each is the libraries' own class, jittered, at a width of 16. The tokenizer knows bytes, the words of the templates
that pipelines write around a prompt, and the tokens of a chat: so a template takes as many tokens as it does for
the released tokenizers, and no two prompts are read alike.
"""

from __future__ import annotations

from typing import Any

from tests.steering.zoo_parts import jitter

__all__ = [
    *("DESCRIBE", "ROOM", "ministral3", "mistral3", "qwen25_vl", "qwen3", "qwen3_vl"),
    *("qwen3_vl_processor", "qwen25_vl_processor", "smollm3", "tokenizer", "umt5"),
]

ROOM = 32  # tokens that a tiny prompt has room for, with the template around it
DESCRIBE = (  # what Qwen-Image writes before a prompt
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the"
    " objects and background:"
)
_WIDTH = 16
_JITTER = 0.1
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "[INST]", "[/INST]", "[IMG]"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_INSTRUCT = (  # as Mistral's, without the system's words, which would take all room
    "{% for m in messages if m['role'] == 'user' %}[INST]"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}[/INST]{% endfor %}"
)


def tokenizer(*templates: str, instruct: bool = False) -> Any:
    """A tokenizer of bytes to which each word of `templates` is one token; `instruct`: with Mistral's chat."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+|\s+|[^\p{L}\s]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = [piece for text in ("system\nuser\nassistant", *templates) for piece, _ in split.pre_tokenize_str(text)]
    known = dict.fromkeys([*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ", *words])
    made = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(known)}, merges=[], ignore_merges=True))
    made.pre_tokenizer = split
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=[s for s in _SPECIAL if s not in ("<|endoftext|>", "<|im_end|>")],
        chat_template=_INSTRUCT if instruct else _CHAT,
    )


def _text(tokens: Any, layers: int) -> dict[str, Any]:
    """What the configurations of all models here have in common."""
    return {
        "vocab_size": len(tokens),
        "pad_token_id": tokens.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokens.eos_token_id,
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
    }


def qwen3(tokens: Any, *, layers: int = 2, writes: bool = True) -> Any:
    """A Qwen 3 of `layers` layers; `writes`: with the layer that chooses words."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

    config = Qwen3Config(head_dim=8, **_text(tokens, layers))
    return jitter((Qwen3ForCausalLM if writes else Qwen3Model)(config), _JITTER)


def qwen25_vl(tokens: Any) -> Any:
    """A Qwen 2.5 VL of two layers, with eyes of one."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": _WIDTH}
    config = Qwen2_5_VLConfig(
        text_config=_text(tokens, 2) | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision_config=eyes | {"fullatt_block_indexes": [0]},
        **_vision_tokens(tokens),
    )
    return jitter(Qwen2_5_VLForConditionalGeneration(config), _JITTER)


def qwen25_vl_processor(tokens: Any) -> Any:
    """The processor of Qwen 2 VL and 2.5 VL around a tokenizer."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    return Qwen2VLProcessor(Qwen2VLImageProcessor(), tokens, Qwen2VLVideoProcessor(), chat_template=_CHAT)


def qwen3_vl(tokens: Any, *, layers: int = 2, writes: bool = True) -> Any:
    """A Qwen 3 VL of `layers` layers, with eyes of one; `writes`: with the layer that chooses words."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLModel

    eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": _WIDTH}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=_text(tokens, layers) | {"head_dim": 8, "rope_parameters": rope},
        vision_config=eyes | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_vision_tokens(tokens),
    )
    return jitter((Qwen3VLForConditionalGeneration if writes else Qwen3VLModel)(config), _JITTER)


def qwen3_vl_processor(tokens: Any) -> Any:
    """The processor of Qwen 3 VL around a tokenizer."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(Qwen2VLImageProcessor(), tokens, Qwen3VLVideoProcessor(), chat_template=_CHAT)


def mistral3(tokens: Any, *, layers: int = 2, writes: bool = True) -> Any:
    """A Mistral 3 of `layers` layers, with Pixtral's eyes of one; `writes`: with the layer that chooses words."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration, Mistral3Model

    config = Mistral3Config(
        text_config={"model_type": "mistral", "head_dim": 8, **_text(tokens, layers)},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        image_token_id=tokens.convert_tokens_to_ids("[IMG]"),
    )
    return jitter((Mistral3ForConditionalGeneration if writes else Mistral3Model)(config), _JITTER)


def ministral3(tokens: Any) -> Any:
    """A Ministral 3 of two layers that can write text."""
    from transformers import Ministral3Config, Ministral3ForCausalLM

    config = Ministral3Config(head_dim=8, **_text(tokens, 2) | {"max_position_embeddings": 262144})
    return jitter(Ministral3ForCausalLM(config), _JITTER)


def smollm3(tokens: Any) -> Any:
    """A SmolLM 3 of six layers that can write text, and that knows the released tokenizer's first token."""
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    config = SmolLM3Config(**_text(tokens, 6) | {"vocab_size": 128001}, no_rope_layers=[1] * 6)
    return jitter(SmolLM3ForCausalLM(config), _JITTER)


def umt5() -> Any:
    """A UMT5 encoder of two layers, for ByT5's bytes."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=384,
        d_model=_WIDTH,
        d_kv=8,
        d_ff=2 * _WIDTH,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return jitter(UMT5EncoderModel(config), _JITTER)


def _vision_tokens(tokens: Any) -> dict[str, Any]:
    names = ("vision_start", "vision_end")
    ids = {f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    ids |= {f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
    return ids
