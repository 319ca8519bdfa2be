"""Tiny transformers that write about images, of random weights wide enough that images get texts of their own."""

from __future__ import annotations

import torch

from medward.guard.models.greedy_decoding import PretrainedWriter

BEGIN, END, PAD, IMAGE, UNKNOWN = "<s>", "</s>", "<pad>", "<image>", "<unk>"
SPECIAL = (BEGIN, END, PAD, IMAGE, UNKNOWN)
WORDS = (
    "no", "effusion", "is", "seen.", "cardiomegaly", "possible", "pneumothorax", "there", "left", "small", "large",
    "and", "heart", "lungs", "are", "clear.", "right", "mild", "stable", "without",
)  # fmt: skip
VOCABULARY = len(SPECIAL) + len(WORDS)


def word_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BEGIN, eos_token=END, pad_token=PAD, unk_token=UNKNOWN,
        additional_special_tokens=[IMAGE],
    )  # fmt: skip


def encoder_decoder(seed=0):
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    vision = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
        num_channels=1, initializer_range=0.4,
    )  # fmt: skip
    text = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, add_cross_attention=True,
        is_decoder=True, bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(seed)
    network = VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text))
    network.config.decoder_start_token_id = network.generation_config.decoder_start_token_id = 0
    network.config.pad_token_id = network.generation_config.pad_token_id = 2
    network.generation_config.eos_token_id = 1
    return PretrainedWriter(network=network, tokenizer=word_tokenizer())


def llava_writer(seed=0):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8,
        num_channels=1, initializer_factor=20.0,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, vision_feature_layer=-1)
    network = LlavaForConditionalGeneration(config)
    network.generation_config.eos_token_id, network.generation_config.pad_token_id = 1, 2
    return PretrainedWriter(network=network, tokenizer=word_tokenizer())
