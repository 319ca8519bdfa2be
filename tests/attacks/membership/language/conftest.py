"""One memorising target and what an attacker holds beside it."""

from __future__ import annotations

import numpy as np
import pytest
from support.language import memorising_subject, tiny_masked_model, word_tokenizer

from medward.attacks.membership.language.readings import LanguageHoldings, LanguageReadings, ShadowLanguage
from medward.attacks.membership.language.spv import train_self_reference
from medward.attacks.membership.language.training import fine_tuned_copy


@pytest.fixture(scope="session")
def subject():
    return memorising_subject()


@pytest.fixture(scope="session")
def tokenizer():
    return word_tokenizer()


@pytest.fixture(scope="session")
def truth():
    return np.arange(120) < 60


@pytest.fixture(scope="session")
def holdings(subject, tokenizer):
    inside, outside = subject.known[:30], subject.known[30:]
    shadow = fine_tuned_copy(subject.base, tokenizer, inside, epochs=40, seed=3, rate=3e-3)
    prompts = [" ".join(text.split()[:6]) for text in subject.known]
    mirror = train_self_reference(subject.target, subject.base, tokenizer, prompts, new_tokens=24, epochs=4, seed=0)
    return LanguageHoldings(
        reference=subject.base,
        self_reference=mirror,
        masked=(tiny_masked_model(seed=0), tokenizer),
        nonmembers=subject.known,
        members=subject.known_members,
        shadow=ShadowLanguage(model=shadow, members=inside, others=outside),
    )


@pytest.fixture(scope="session")
def readings(subject, tokenizer, holdings):
    texts = (*subject.members, *subject.others)
    return LanguageReadings(model=subject.target, tokenizer=tokenizer, texts=texts, holdings=holdings, seed=0)


@pytest.fixture(scope="session")
def unrelated(subject, tokenizer, holdings):
    """The same candidates and attacker before a target that saw neither."""
    texts = (*subject.members, *subject.others)
    return LanguageReadings(model=subject.base, tokenizer=tokenizer, texts=texts, holdings=holdings, seed=0)
