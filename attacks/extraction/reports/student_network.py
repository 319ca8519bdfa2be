"""The thief's own report model: a small convolutional encoder and a small GPT-2 decoder, from configurations alone.

Nothing is fetched and no weight is anybody's. The encoder is the row thieves' network (`attacks.whitebox.surrogate`)
without its last layer: from the few hundred answers that a thief can pay for, plain vision transformers learn little.
Without normalisation it keeps brightness and contrast, and so what it learned on photographs carries further.

References: Li et al., "TrOCR", AAAI 2023 (a vision encoder and a text decoder of transformers); Radford et al.,
"Language models are unsupervised multitask learners", 2019 (GPT-2). Sizes are ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)
from transformers.modeling_outputs import BaseModelOutput

from medward.attacks.learners.report_tokenizer import BEGIN, END, PAD, report_tokenizer
from medward.guard.models.greedy_decoding import PretrainedWriter

_WIDTHS = (32, 64, 128)
_PLACES = 8  # of an image's side, at most
_LARGE = 48  # pixels of a side from which the first layer halves it, too


class ConvolutionConfig(PreTrainedConfig):  # type: ignore[misc]
    """The configuration of a `ConvolutionEncoder`: how wide its places are, and the channels and sides of images."""

    model_type = "medward-convolutions"

    def __init__(self, hidden_size: int = 128, image_shape: tuple[int, ...] = (1, 28, 28), **settings: Any) -> None:
        self.hidden_size, self.image_shape = hidden_size, tuple(image_shape)
        super().__init__(**settings)


class ConvolutionEncoder(PreTrainedModel):  # type: ignore[misc]
    """A convolutional encoder sees an image ``(n, C, H, W)`` as at most 8 x 8 places ``(n, places, hidden_size)``."""

    config_class = ConvolutionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ConvolutionConfig) -> None:
        super().__init__(config)
        channels, height, width = config.image_shape
        layers: list[nn.Module] = []
        for wide, stride in zip(_WIDTHS, (1 + (min(height, width) >= _LARGE), 2, 2), strict=True):
            layers += [nn.Conv2d(channels, wide, 3, stride=stride, padding=1), nn.ReLU()]
            channels = wide
        side = min(_PLACES, -(-min(height, width) // 4))
        self.seen = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(side), nn.Flatten(2))
        self.widened = nn.Linear(channels, config.hidden_size)
        self.place = nn.Parameter(0.02 * torch.randn(side * side, config.hidden_size))
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """What is seen at every place."""
        return BaseModelOutput(last_hidden_state=self.widened(self.seen(pixel_values).transpose(1, 2)) + self.place)

    def _init_weights(self, module: nn.Module) -> None:
        """Layers begin as wide as their inputs are (He et al., ICCV 2015), so that images are seen from the start."""
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.constant_(module.get_parameter("bias"), 0.0)


AutoConfig.register(ConvolutionConfig.model_type, ConvolutionConfig, exist_ok=True)


def student_network(shape: tuple[int, ...], tokenizer: Any, *, width: int, layers: int, context: int) -> Any:
    """An untrained network for images `shape` (C, H, W) that writes up to `context` tokens; draws from torch's RNG."""
    begin, end, pad = (tokenizer.convert_tokens_to_ids(each) for each in (BEGIN, END, PAD))
    text = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=context,
        add_cross_attention=True,
        is_decoder=True,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=0.05,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=pad,
    )
    encoder, decoder = ConvolutionEncoder(ConvolutionConfig(width, shape)), GPT2LMHeadModel(text)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder.config, decoder.config)
    network = VisionEncoderDecoderModel(config=config, encoder=encoder, decoder=decoder)
    for each in (network.config, network.generation_config):
        each.decoder_start_token_id = each.bos_token_id = begin
        each.eos_token_id, each.pad_token_id = end, pad
    return network


def small_writer(
    shape: tuple[int, ...], texts: list[str], *, width: int, layers: int, vocabulary: int, longest: int, seed: int
) -> PretrainedWriter:
    """An untrained writer about images `shape` in the words of `texts`, of at most `longest` tokens a text."""
    tokenizer = report_tokenizer(texts, vocabulary=vocabulary)
    most = max((len(each) for each in tokenizer(texts, add_special_tokens=False).input_ids), default=0)
    context = min(longest, most + most // 4) + 2  # its begin and end
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = student_network(shape, tokenizer, width=width, layers=layers, context=context)
    return PretrainedWriter(network=network, tokenizer=tokenizer)
