"""Owns the small text encoders and tokenizers that today's pipelines need beside those of the older families.

Everything is the libraries' own class, at a width of 16 and two or three layers. The tokenizers know bytes or letters,
so that any prompt is read, and no two prompts alike.
"""

from __future__ import annotations

from typing import Any

from tests.steering.zoo_parts import TEXT, jitter

__all__ = ["qwen25_vl", "qwen_tokenizer", "template_length"]

_CHAT = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _bytes() -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    return {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}


def qwen_tokenizer() -> Any:
    """A Qwen 2 tokenizer of bytes, with the tokens of a chat."""
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(vocab=_bytes() | {t: 256 + i for i, t in enumerate(_CHAT)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": _CHAT[1:]})
    return tokenizer


def qwen_chat_tokenizer() -> Any:
    """`qwen_tokenizer` with a plain chat template."""
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def chat_length(tokenizer: Any, system: str) -> int:
    """Tokens of a chat before the words of its user."""
    return template_length(tokenizer, f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{{}}")


def template_length(tokenizer: Any, template: str) -> int:
    """Tokens of a prompt template before the place of the prompt."""
    return len(tokenizer(template.split("{}")[0]).input_ids)


def qwen25_vl(tokenizer: Any, *, width: int = 16) -> Any:
    """A Qwen 2.5 VL model of three layers."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": ids("<|im_start|>"),
            "eos_token_id": ids("<|im_end|>"),
        },
        vision_config={
            "depth": 1,
            "hidden_size": width,
            "intermediate_size": width,
            "num_heads": 2,
            "out_hidden_size": width,
            "patch_size": 2,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    return jitter(Qwen2_5_VLForConditionalGeneration(config), 0.1)


def qwen_processor() -> Any:
    """A Qwen 2 VL processor around `qwen_tokenizer`; its picture and video parts are the libraries' defaults."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(), tokenizer=qwen_tokenizer(), video_processor=Qwen2VLVideoProcessor()
    )


def bert_tokenizer() -> Any:
    """A BERT tokenizer of letters."""
    from transformers import BertTokenizer

    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=77)


def bert(tokenizer: Any, *, width: int = 16) -> Any:
    """A BERT encoder of two layers."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=80,
    )
    return jitter(BertModel(config), 0.1)


def t5_gemma(tokenizer: Any, *, width: int = 16) -> Any:
    """The encoder of a T5Gemma model, of two layers."""
    from transformers import T5GemmaConfig, T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    module = T5GemmaModuleConfig(
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
    )
    return jitter(T5GemmaEncoder(T5GemmaConfig(encoder=module, decoder=module).encoder), 0.1)


def llama_tokenizer() -> Any:
    """A Llama 3 tokenizer of bytes, as `PreTrainedTokenizerFast`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    tokenizer = Tokenizer(models.BPE(vocab=_bytes() | {begin: 256, end: 257}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, 256)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end, pad_token=end, model_max_length=TEXT
    )


def llama(tokenizer: Any, *, layers: int, width: int = 16) -> Any:
    """A Llama model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        attn_implementation="eager",  # gives attentions, which HiDream asks for
    )
    return jitter(LlamaForCausalLM(config), 0.1)


def glm_tokenizer() -> Any:
    """A GLM 4 tokenizer of bytes: two tokens begin the text, and padding comes first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"<|endoftext|>": 256, "[gMASK]": 257, "<sop>": 258}
    tokenizer = Tokenizer(models.BPE(vocab=_bytes() | special, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=[("[gMASK]", 257), ("<sop>", 258)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["[gMASK]", "<sop>"],
        padding_side="left",
    )


def glm(tokenizer: Any, *, width: int = 16) -> Any:
    """A GLM model of three layers."""
    from transformers import GlmConfig, GlmModel

    config = GlmConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return jitter(GlmModel(config), 0.1)


def umt5(width: int = 16) -> Any:
    """A UMT5 encoder of two layers, for ByT5's bytes."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(vocab_size=384, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2)
    return jitter(UMT5EncoderModel(config), 0.1)


def qwen3_processor() -> Any:
    """A Qwen 3 VL processor around `qwen_tokenizer`, with a plain chat template."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=qwen_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=_CHAT_TEMPLATE,
    )


def qwen3_vl(tokenizer: Any, *, layers: int = 3, width: int = 16) -> Any:
    """A Qwen 3 VL model."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    ids = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 1,
            "hidden_size": width,
            "intermediate_size": width,
            "num_heads": 2,
            "out_hidden_size": width,
            "patch_size": 2,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    return jitter(Qwen3VLForConditionalGeneration(config), 0.1)


def chat_glm_tokenizer() -> Any:
    """Kolors' tokenizer of letters; it takes its SentencePiece model from a file only, so one is written and read."""
    import io
    import tempfile
    from pathlib import Path

    import sentencepiece
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    letters = "".join(chr(code) for code in range(33, 127))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(letters)]),
        model_writer=model,
        model_type="char",
        vocab_size=len(letters) + 4,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tokenizer.model")
        file.write_bytes(model.getvalue())
        return ChatGLMTokenizer(str(file))


def chat_glm(tokenizer: Any, *, width: int = 16) -> Any:
    """Kolors' ChatGLM encoder of three layers."""
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    config = ChatGLMConfig(
        num_layers=3,
        padded_vocab_size=tokenizer.vocab_size,
        hidden_size=width,
        ffn_hidden_size=2 * width,
        kv_channels=8,
        num_attention_heads=2,
        seq_length=TEXT,
        add_qkv_bias=True,
        multi_query_attention=True,
        original_rope=True,
    )
    model = ChatGLMModel(config)
    for name, parameter in model.named_parameters():
        parameter.data.fill_(1.0 if "norm" in name else 0.0)  # diffusers leaves them to a checkpoint
    return jitter(model, 0.2)
