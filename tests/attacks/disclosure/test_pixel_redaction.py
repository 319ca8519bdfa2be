"""A victim of redacted sight sees what redaction leaves; what was filled cannot be read out of its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from support.burned_in import WhiteReader, inked

from medward.attacks.disclosure.disguises import DISGUISES
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.pixel_redaction import BurnedInRedaction, RedactedSightVictim
from medward.attacks.disclosure.victim import ExtractionTurn, PromptedVictim, Shown
from medward.guard.errors import MedwardError

TURN = ExtractionTurn(kind="record number", framing=FRAMINGS["direct"], disguise=DISGUISES["verbatim"])


def shown_image():
    pixels, box = inked()
    return (pixels[None] / np.float32(255)).astype(np.float32), box


@dataclass(frozen=True)
class Brightest:
    """Says how bright the brightest pixel is that it sees, or that it sees none."""

    def answer(self, shown, ask):
        return "blind" if shown.image is None else f"{shown.image.max():.2f}, {shown.header}, {shown.text}"


def test_text_is_filled_and_every_other_pixel_stays():
    image, box = shown_image()
    redacted = BurnedInRedaction(reader=WhiteReader(), everywhere=True)(image)
    outside = np.ones(image.shape[1:], bool)
    filled = box.grown(2, image.shape[1:])
    outside[filled.slices] = False
    assert image.max() == 1
    assert redacted[0][filled.slices].max() == image.min()
    assert np.abs(redacted[0][outside] - image[0][outside]).max() <= 1 / 255


def test_without_text_an_image_stays():
    image, box = shown_image()
    image[0][box.slices] = image[0][box.moved(30, 0).slices]
    assert np.abs(BurnedInRedaction(reader=WhiteReader(), everywhere=True)(image) - image).max() <= 1 / 255


def test_an_image_is_redacted_once_however_often_it_is_shown():
    image, _ = shown_image()
    reader = WhiteReader()
    redact = BurnedInRedaction(reader=reader, everywhere=True)
    first = redact(image)
    asked = reader.asked
    assert redact(image.copy()) is first
    assert reader.asked == asked
    assert redact(1 - image) is not first
    assert reader.asked > asked


def test_text_that_cannot_be_filled_is_an_error_and_not_shown():
    image, _ = shown_image()
    victim = RedactedSightVictim(
        victim=Brightest(), redact=BurnedInRedaction(reader=WhiteReader(stubborn=True), everywhere=True)
    )
    with pytest.raises(MedwardError, match="still be read"):
        victim.answer(Shown(image=image), TURN)


def test_a_victim_of_redacted_sight_sees_the_redacted_image_and_all_else_as_it_is():
    image, _ = shown_image()
    shown = Shown(header={"record number": "1"}, text="about", image=image)
    assert Brightest().answer(shown, TURN).startswith("1.00")
    victim = RedactedSightVictim(victim=Brightest(), redact=lambda image: image / 2)
    assert victim.answer(shown, TURN) == "0.50, {'record number': '1'}, about"
    assert victim.answer(Shown(), TURN) == "blind"


def test_a_prompted_victim_may_leave_the_header_to_its_filters():
    shown = Shown(header={"record number": "4711"}, text="about")
    assert PromptedVictim(lambda prompt, _: prompt).answer(shown, TURN).startswith("record number: 4711\n\nabout")
    said = PromptedVictim(lambda prompt, _: prompt, reads_header=False).answer(shown, TURN)
    assert said == f"about\n\n{TURN.prompt}"
