"""Losses of texts and texts in batches are of the tokens that a guarded model serves one by one."""

import pytest
import torch
from support.report_networks import encoder_decoder, llava_writer

from medward.attacks.whitebox.written_texts import text_logits, token_losses, write_texts
from medward.guard.errors import MedwardError

WRITERS = {
    "encoder-decoder": (encoder_decoder, ""),
    "llava": (lambda: llava_writer(2), "is there effusion"),  # of that seed no text has a token that is not shown
}
TEXTS = ["no effusion is seen.", "cardiomegaly", "left lungs are clear. without effusion"]
LONGEST = 9


@pytest.fixture(params=WRITERS)
def asked(request):
    made, prompt = WRITERS[request.param]
    torch.manual_seed(0)
    return made(), torch.rand(3, 1, 16, 16), prompt


def test_texts_in_a_batch_are_those_that_are_served(asked):
    writer, pixels, prompt = asked
    served = ["".join(writer.pieces(row[None], prompt, LONGEST)) for row in pixels]
    assert write_texts(writer, pixels, prompt, LONGEST) == served
    assert len(set(served)) > 1
    assert write_texts(writer, pixels[:0], prompt, LONGEST) == []


def test_a_served_text_is_the_likeliest_token_by_token(asked):
    writer, pixels, prompt = asked
    texts = write_texts(writer, pixels, prompt, LONGEST)
    logits, wanted = text_logits(writer, pixels, prompt, texts)
    for row, text in enumerate(texts):
        count = len(writer.tokenizer(text, add_special_tokens=False).input_ids)
        assert logits[row, :count].argmax(-1).tolist() == wanted[row, :count].tolist()
        if count < LONGEST:
            assert int(logits[row, count].argmax()) == writer.tokenizer.eos_token_id == int(wanted[row, count])


def test_losses_are_of_each_text_alone_and_nothing_behind_its_end(asked):
    writer, pixels, prompt = asked
    losses, counts = token_losses(writer, pixels, prompt, TEXTS)
    assert counts.tolist() == [5, 2, 7]
    for row, text in enumerate(TEXTS):
        alone, count = token_losses(writer, pixels[[row]], prompt, [text])
        torch.testing.assert_close(losses[row, :count], alone[0], atol=1e-4, rtol=1e-4)
        assert not losses[row, count:].any()
    cut, few = token_losses(writer, pixels, prompt, TEXTS, longest=3)
    assert (cut.shape[1], few.tolist()) == (3, [3, 2, 3])


def test_losses_have_a_slope_in_the_pixels_and_none_where_the_image_is_not_seen(asked):
    writer, pixels, prompt = asked
    pixels.requires_grad_()
    (slope,) = torch.autograd.grad(token_losses(writer, pixels, prompt, TEXTS)[0].sum(), pixels)
    assert all(each.abs().max() > 0 for each in slope)
    (other,) = torch.autograd.grad(token_losses(writer, pixels, prompt, TEXTS)[0][0].sum(), pixels)
    assert other[0].abs().max() > 0
    assert not other[1:].any()


def test_draws_are_the_generators_and_near_greedy_when_cold(asked):
    writer, pixels, prompt = asked
    one, again, other = (
        write_texts(writer, pixels, prompt, LONGEST, temperature=2.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one == again != other
    cold = write_texts(writer, pixels, prompt, LONGEST, temperature=1e-3, generator=torch.Generator().manual_seed(0))
    assert cold == write_texts(writer, pixels, prompt, LONGEST)


def test_other_numbers_of_texts_are_refused(asked):
    with pytest.raises(MedwardError, match="one for each of the 3 images, got 1"):
        token_losses(*asked, TEXTS[:1])
