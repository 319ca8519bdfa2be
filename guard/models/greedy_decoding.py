"""Greedy decoding of a transformers network that writes about an image, one token at a time.

Two kinds of networks are read: a vision encoder with a text decoder (``VisionEncoderDecoderModel``), and a language
model whose input ids hold a token for every place of the image, as LLaVA's do (``AutoModelForImageTextToText``). The
text is the one that ``generate(do_sample=False, num_beams=1)`` gives; settings of generation that would make it another
are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medward.guard.errors import MedwardError

_PLAIN: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0, 0.0),
    "dola_layers": (),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "bad_words_ids": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "sequence_bias": (),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1.0,),
    "stop_strings": (),
    "watermarking_config": (),
}
"""Settings of generation that change what greedy decoding writes, and the values besides None that do not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PretrainedWriter:
    """A pretrained writer is a `network` of transformers that writes about an image, and its fast `tokenizer`.

    Raises `MedwardError` for a network of neither kind, and for generation that is more than greedy decoding.
    """

    network: Any
    tokenizer: Any

    def __post_init__(self) -> None:
        kind = type(self.network).__name__
        if not self.encodes and not (hasattr(self.network, "get_image_features") and self.image_token is not None):
            raise MedwardError(
                f"model: {kind} is no vision encoder with a text decoder, and has no token for places of an image; "
                "guard it as a function from images to texts"
            )
        for name, plain in _PLAIN.items():
            value = getattr(self.network.generation_config, name, None)
            if value is not None and value not in plain:
                raise MedwardError(
                    f"model: {kind} is set to generate with {name} = {value!r}, and reports are decoded greedily; set "
                    "it to None in generation_config, or guard it as a function from images to texts"
                )
        self.network.eval()

    @property
    def encodes(self) -> bool:
        """Whether it is a vision encoder with a text decoder."""
        return bool(self.network.config.model_type == "vision-encoder-decoder")

    @property
    def tower(self) -> Any:
        """The part of the network that sees."""
        return self.network.encoder if self.encodes else self.network.model.vision_tower

    @property
    def image_token(self) -> int | None:
        """The token that stands for a place of the image."""
        found = getattr(self.network.config, "image_token_id", None)
        return None if found is None else int(found)

    @property
    def vocabulary(self) -> int:
        """How many kinds of token there are."""
        return int(self.network.config.get_text_config(decoder=True).vocab_size)

    def vision_states(self, pixels: Tensor) -> Tensor:
        """What the network sees at every place of each image ``(n, places, d)``, of pixel values ``(n, C, H, W)``.

        It has a slope in `pixels` unless torch was told that none is wanted.
        """
        pixels = self.placed(pixels)
        if self.encodes:
            states: Tensor = self.network.encoder(pixel_values=pixels).last_hidden_state
            return states
        return torch.stack(list(self.network.get_image_features(pixel_values=pixels).pooler_output))

    def first_tokens(self, prompt: str, places: int) -> list[int]:
        """What stands before a text: the token that begins one, or the prompt with all `places` of the image.

        Raises `MedwardError` for a prompt that names the image twice.
        """
        if self.encodes:
            return [self._first]
        image = self.image_token
        assert image is not None
        ids: list[int] = list(self.tokenizer(prompt).input_ids)
        if image not in ids:  # before what is asked, behind the token that begins a text
            ids.insert(int(bool(ids) and ids[0] == self.tokenizer.bos_token_id), image)
        if ids.count(image) > 1:
            raise MedwardError(f"prompt: names the image {ids.count(image)} times; name it once, or not")
        at = ids.index(image)
        return [*ids[:at], *[image] * places, *ids[at + 1 :]]

    def placed(self, pixels: Tensor) -> Tensor:
        """Pixels where the network is, in numbers of its kind."""
        return pixels.to(device=self.network.device, dtype=self.network.dtype)

    def pieces(self, pixels: Tensor, prompt: str, longest: int, seen: Tensor | None = None) -> Iterator[str]:
        """The text about one image ``(1, C, H, W)`` in words, of at most `longest` tokens.

        `seen` are its `vision_states`, where they are known already.
        """
        ids: list[int] = []
        told = ""
        for token in self._tokens(pixels, prompt, longest, seen):
            ids.append(token)
            whole = self._text(ids)
            sure = whole[: max(whole.rfind(" "), whole.rfind("\n"), 0)]
            if len(sure) > len(told) and sure.startswith(told):
                yield sure[len(told) :]
                told = sure
        whole = self._text(ids)
        if not whole.startswith(told):
            raise MedwardError("model: its tokenizer changes words that it already wrote; guard it as a function")
        yield whole[len(told) :]

    @torch.inference_mode()
    def _tokens(self, pixels: Tensor, prompt: str, longest: int, seen: Tensor | None) -> Iterator[int]:
        """Tokens until the end of the text."""
        ends, cache = self._ends, None
        ids, given = self._start(pixels, prompt, self.vision_states(pixels) if seen is None else seen)
        for _ in range(longest):
            out = self.network(**given, **self._named(ids, cache), use_cache=True)
            token = int(out.logits[0, -1].argmax())
            if token in ends:
                return
            yield token
            ids = torch.cat([ids, ids.new_tensor([[token]])], dim=1)
            cache = out.past_key_values
            given.pop("pixel_values", None)  # which the cache holds

    def _start(self, pixels: Tensor, prompt: str, seen: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The first ids, and what the network is given of the image."""
        ids = torch.tensor([self.first_tokens(prompt, seen.shape[1])], device=self.network.device)
        return ids, {"encoder_outputs": (seen,)} if self.encodes else {"pixel_values": self.placed(pixels)}

    def _named(self, ids: Tensor, cache: Any) -> dict[str, Any]:
        """The ids of a step as the network calls them: all at first, then the last."""
        named = {
            "input_ids": ids if cache is None else ids[:, -1:],
            "attention_mask": torch.ones_like(ids),
        }
        prefix = "decoder_" if self.encodes else ""
        return {**{f"{prefix}{name}": value for name, value in named.items()}, "past_key_values": cache}

    @property
    def _first(self) -> int:
        config = self.network.config
        for each in (self.network.generation_config, config, config.decoder):
            for name in ("decoder_start_token_id", "bos_token_id"):
                if (found := getattr(each, name, None)) is not None:
                    return int(found)
        raise MedwardError("model: no decoder_start_token_id says how a text begins; set it in its configuration")

    @property
    def _ends(self) -> set[int]:
        found = self.network.generation_config.eos_token_id
        if found is None:
            found = self.network.config.get_text_config(decoder=True).eos_token_id
        if found is None:
            raise MedwardError("model: no eos_token_id says how a text ends; set it in generation_config")
        return {int(found)} if isinstance(found, int) else set(map(int, found))

    def _text(self, ids: list[int]) -> str:
        found: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return found
