"""Exposure and extraction of canaries: by hand, by chance, and of a small language model with its counterfactual."""

from __future__ import annotations

import numpy as np
import pytest
from support.character_models import character_tokenizer, small_character_model

from medward.attacks.disclosure.canary_extraction import measure_canary_leaks, split_canary
from medward.attacks.disclosure.exposure import canary_exposures
from medward.attacks.disclosure.extraction_suite import Unguarded
from medward.attacks.experiments.canary_language_model import language_model_leaks, plant_repeated
from medward.attacks.membership.language.training import fine_tuned_copy
from medward.guard.errors import MedwardError
from medward.guard.release.memory.memory_filter import MemoryFilter

NOTE = "Patient Nuloba Kerasti, record 1234-5678-9012. Clear lungs."


def test_a_canary_that_is_known_stands_above_all_and_one_that_is_not_in_the_middle():
    known = canary_exposures(lambda texts: np.array([0.0 if text == NOTE else 1.0 for text in texts]), [NOTE])
    assert known.tolist() == [8.0]
    flat = canary_exposures(lambda texts: np.zeros(len(texts)), [NOTE])
    assert flat[0] == pytest.approx(8 - np.log2(1 + 255 / 2))


def test_by_chance_exposure_is_that_of_guessing():
    rng = np.random.default_rng(0)
    found = canary_exposures(lambda texts: rng.random(len(texts)), [NOTE] * 200)
    assert found.mean() == pytest.approx(1.44, abs=0.3)


def test_the_secret_is_the_number_and_a_script_that_says_it_leaks_it():
    assert split_canary(NOTE) == ("Patient Nuloba Kerasti, record ", "1234-5678-9012")
    known = MemoryFilter.fit([NOTE], [0], salt=bytes(16))

    def losses(texts):
        return np.ones(len(texts))

    for guard, guarded in ((Unguarded(), 1), (known, 0)):
        (leak,) = measure_canary_leaks(
            losses, lambda prompts: ["1234 5678 9012"] * len(prompts), {1: [NOTE]}, lambda g=guard: g
        )
        assert (leak.extracted.value, leak.guarded.value) == (1, guarded)
    (silent,) = measure_canary_leaks(losses, lambda prompts: ["."] * len(prompts), {1: [NOTE]}, Unguarded)
    assert silent.extracted.value == 0


def test_what_has_no_number_is_refused():
    with pytest.raises(MedwardError, match="has no digit"):
        canary_exposures(lambda texts: np.zeros(len(texts)), ["no number"])
    with pytest.raises(MedwardError, match="no number to be extracted"):
        split_canary("no number")


def test_canaries_are_planted_as_often_as_said_and_others_left_out():
    planted, groups = plant_repeated(["a report"], 12, seed=3)
    assert set(groups) == {0, 1, 4, 16}
    for copies, texts in groups.items():
        assert texts
        assert {planted.count(text) for text in texts} == {copies}


@pytest.mark.slow
def test_a_model_gives_away_what_it_read_often_and_one_that_did_not_read_it_nothing():
    planted, groups = plant_repeated([], 12, seed=2, repetitions=(1, 16))
    tokenizer, fresh = character_tokenizer(), small_character_model(seed=0)
    known = MemoryFilter.fit(planted, planted, salt=bytes(16))

    def leaks(model):
        return {each.repetitions: each for each in language_model_leaks(model, tokenizer, groups, known, references=63)}

    young = fine_tuned_copy(fresh, tokenizer, planted, epochs=4, seed=0, rate=4e-3)
    exposure = {copies: leak.exposure for copies, leak in leaks(young).items()}
    assert exposure[16] > exposure[1] + 1 > exposure[0] + 1
    found = leaks(fine_tuned_copy(young, tokenizer, planted, epochs=25, seed=0, rate=4e-3))
    assert found[16].extracted.value > 0.5
    assert found[0].extracted.value == 0
    assert max(each.guarded.value for each in found.values()) == 0
    assert max(each.extracted.value for each in leaks(fresh).values()) == 0
