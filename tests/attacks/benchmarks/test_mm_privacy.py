"""MM-Privacy: pages say what they are to say, victims learn from them, and the table tells protection from none."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from support.page_scripts import GridTextReader, ScriptedReader, read_lines

from medward.attacks.benchmarks.mm_privacy.answers import ReaderAnswers, written_answers
from medward.attacks.benchmarks.mm_privacy.curriculum import Curriculum, trained_reader
from medward.attacks.benchmarks.mm_privacy.exchanges import (
    BENIGN_QUESTIONS,
    NOT_STATED,
    REFUSAL,
    about,
    drawn_exchange,
    framed_exchange,
    line_exchange,
    refusing_exchange,
)
from medward.attacks.benchmarks.mm_privacy.fine_tuning import (
    contrastive_losses,
    fine_tuned,
    lesson_rows,
    privately_tuned,
    with_safe_answers,
)
from medward.attacks.benchmarks.mm_privacy.mitigation_table import (
    Mitigation,
    measure_benign_answers,
    measure_mitigation,
    prepared_victim,
)
from medward.attacks.benchmarks.mm_privacy.page_reader import (
    PLACES,
    ReaderSize,
    answer_ids,
    begun_ids,
    page_words,
    untrained_reader,
)
from medward.attacks.benchmarks.mm_privacy.page_source import drawn_values, made_people, made_source
from medward.attacks.benchmarks.mm_privacy.page_training import Schedule, image_states, seen_pixels
from medward.attacks.benchmarks.mm_privacy.pages import (
    LETTERS_A_LINE,
    PAGE_SIDE,
    PRINTED_LABELS,
    crowded_page,
    form_page,
    half_size,
)
from medward.attacks.benchmarks.mm_privacy.probes import benign_probes, disclosure_probes, retention_probes
from medward.attacks.benchmarks.mm_privacy.retention import made_memory, page_lessons
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.identities import known_identifiers
from medward.attacks.disclosure.pixel_redaction import BurnedInRedaction
from medward.attacks.disclosure.refusal import is_refusal
from medward.attacks.disclosure.victim import IgnorantVictim, WorstCaseVictim
from medward.guard.errors import MedwardError
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.release.privacy_filters import PrivacyFilters

TINY = ReaderSize(width=32, seeing=1, writing=1)


@cache
def source():
    return made_source(3, seed=0)


@cache
def tiny():
    return untrained_reader(TINY, seed=0)


def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("form", [True, False])
def test_a_page_shows_its_values_behind_their_labels_and_nothing_else(form):
    person = drawn_values(generator())
    page = source().page(person, generator(), form=form)
    lines = [line.rstrip() for line in read_lines(page.image[0])]
    assert {f"{PRINTED_LABELS[kind].ljust(4)}{value}" for kind, value in person.items()} <= set(lines)
    assert sum(map(bool, lines)) == len(person) + form
    assert [line_exchange(page, at).answer for at in range(len(lines))] == lines
    assert page.form is form


def test_a_page_without_values_shows_none_and_a_form_still_its_labels():
    assert not any(line.strip() for line in read_lines(source().page({}, generator(), form=False).image[0]))
    lines = [line.strip() for line in read_lines(form_page({}, generator()).image[0])]
    assert sorted(filter(None, lines)) == sorted([*PRINTED_LABELS.values(), "PATIENT FORM"])


def test_a_crowded_page_keeps_its_values_and_says_what_else_is_on_it():
    page = source().page(drawn_values(generator()), generator())
    crowded = crowded_page(page, generator())
    said = [line_exchange(crowded, at).answer for at in range(8)]
    assert sum(map(bool, said)) > sum(map(bool, (line_exchange(page, at).answer for at in range(8))))
    assert [a for a, b in zip(said, (line_exchange(page, at).answer for at in range(8)), strict=True) if b] == [
        line_exchange(page, at).answer for at in range(8) if line_exchange(page, at).answer
    ]
    right = [
        a == b
        for row, line in zip(read_lines(crowded.image[0]), said, strict=True)
        for a, b in zip(row, line.ljust(LETTERS_A_LINE), strict=True)
    ]
    assert np.mean(right) > 0.95


def test_a_victim_sees_the_mean_of_four_pixels():
    page = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    assert half_size(page).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]


def test_people_on_judged_pages_have_names_of_their_own_that_no_training_page_has():
    people = made_people(40, seed=3)
    names = {person["patient name"] for person in people}
    assert len(names) == len(people) == 40
    rng = generator()
    assert not names & {drawn_values(rng)["patient name"] for _ in range(2000)}


def test_tokens_lose_nothing_and_values_are_spelled():
    reader = tiny()
    for framing in FRAMINGS:
        for kind, value in drawn_values(generator()).items():
            exchange = about("ANY NAME", framed_exchange(kind, framing, value))
            ids = answer_ids(reader, exchange.answer)
            assert reader.tokenizer.decode(ids, skip_special_tokens=True) == exchange.answer
            assert len(ids) > len(value)
            begun = begun_ids(reader, exchange.prompt)
            assert reader.tokenizer.decode(begun, skip_special_tokens=True) == exchange.prompt
            assert begun.count(reader.image_token) == PLACES
    assert not any(word.isupper() and len(word) > 2 for word in page_words())


def test_answers_written_together_are_those_of_the_guarded_writer_one_by_one():
    rng = generator()
    reader = copy.deepcopy(tiny())
    for each in reader.network.parameters():
        each.data.mul_(3)  # so that pages get answers of their own
    pages = [source().page(drawn_values(rng), rng) for _ in range(3)]
    prompt = framed_exchange("record number", "direct", "").prompt
    together = written_answers(reader, [prompt] * 3, [page.image for page in pages])
    alone = ["".join(reader.pieces(seen_pixels([page.image]), prompt, 64)) for page in pages]
    assert together == alone
    assert len(set(together)) > 1
    answers = ReaderAnswers(reader=reader)
    assert [answers(prompt, page.image) for page in pages] == together
    with pytest.raises(MedwardError, match="none was shown"):
        answers(prompt, None)


@pytest.mark.slow
def test_a_reader_learns_letters_and_answers():
    losses = []
    curriculum = Curriculum(
        sight=Schedule(steps=25, rows=4, rate=3e-3),
        answers=Schedule(steps=40, rows=2, rate=3e-3),
    )
    trained_reader(source(), curriculum, seed=0, size=TINY, progress=lambda step, loss: losses.append(loss))
    letters, answers = losses[:25], losses[25:]
    assert np.mean(letters[-5:]) < 0.6 * np.mean(letters[:3])
    assert np.mean(answers[-5:]) < 0.8 * np.mean(answers[:3])


def test_the_same_seed_gives_the_same_reader():
    curriculum = Curriculum(sight=Schedule(steps=2, rows=2), answers=Schedule(steps=2, rows=1))
    one, two, other = (trained_reader(source(), curriculum, seed=seed, size=TINY) for seed in (0, 0, 1))
    weights = [list(each.network.parameters()) for each in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def value_loss(reader, memory):
    """The mean loss of what the memory set's lessons say."""
    from medward.attacks.benchmarks.mm_privacy.page_training import row_losses

    with torch.no_grad():
        return float(row_losses(reader.network, lesson_rows(reader, memory.lessons)).mean())


@pytest.mark.slow
def test_fine_tuning_learns_people_by_heart_and_the_contrastive_objective_does_not():
    memory, stranger = (made_memory(source(), 2, seed=seed) for seed in (0, 1))
    first = tiny()
    schedule = Schedule(steps=40, rows=15, rate=1e-2)
    plain = fine_tuned(first, lesson_rows(first, memory.lessons), schedule, seed=0)
    safe = fine_tuned(
        first, with_safe_answers(first, memory.lessons, memory.safe), schedule, seed=0, loss=contrastive_losses
    )
    assert value_loss(plain, memory) < value_loss(plain, stranger) - 0.3
    assert value_loss(safe, memory) > value_loss(plain, memory) + 1
    frozen = [name for name, _ in first.network.named_parameters() if "vision" in name or "projector" in name]
    before, after = first.network.state_dict(), plain.network.state_dict()
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])


def test_the_memory_set_and_the_probes_share_people_but_no_image_and_no_value_on_it():
    memory = made_memory(source(), 3, seed=0)
    probes = retention_probes(memory, made_source(3, seed=9), seed=1)
    trained_on = {page.image.tobytes() for page, _ in memory.lessons}
    assert not trained_on & {each.image.tobytes() for each in probes.shown}
    printed = "".join(line for each in probes.shown for line in read_lines(each.image[0]))
    assert not [value for values in probes.wanted for value in values.values() if value in printed]
    said = "".join(exchange.answer for _, exchange in memory.lessons)
    assert all(value in said for values in probes.wanted for value in values.values())
    assert not [value for values in probes.decoys for value in values.values() if value in said]


@pytest.mark.slow
def test_private_fine_tuning_moves_low_rank_weights_alone_and_says_what_it_spent():
    memory = made_memory(source(), 4, seed=0)
    first = tiny()
    settings = PrivateSettings(target_epsilon=8.0, delta=1e-2, epochs=0.5, rate=0.1, noise_seed=0)
    tuned, run = privately_tuned(first, lesson_rows(first, memory.lessons), memory.owners, settings)
    assert 0 < run.epsilon <= 8
    assert run.plan.units == 4
    before, after = first.network.state_dict(), tuned.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("self_attn" in name and "language_model" in name for name in moved)


def scripted_row(mitigation, victim=None, people=3):
    return measure_mitigation(victim or ScriptedReader(), mitigation, disclosure_probes(source(), people, seed=0))


def scripted_answers(mitigation, victim=None, **more):
    return measure_benign_answers(victim or ScriptedReader(), mitigation, benign_probes(source(), 2, seed=0, **more))


def filtered(shown):
    return PrivacyFilters(PrivacyPolicy()).conversation(known_identifiers(shown.header))


def redaction():
    return BurnedInRedaction(reader=GridTextReader(), everywhere=True)


def test_a_bare_reader_leaks_in_every_framing_and_decoys_are_not_read():
    row = scripted_row(Mitigation())
    assert {each.value for each in row.success.values()} == {1}
    assert set(row.success) == set(FRAMINGS)
    assert row.gate.value == 1
    assert row.decoys.value == 0
    assert {each.value for each in row.refusal.values()} == {0}


def test_pixel_redaction_and_the_told_filter_each_hold_and_leave_benign_answers():
    for mitigation in (Mitigation(redact=redaction()), Mitigation(release=filtered)):
        assert scripted_row(mitigation).gate.value == 0
        for pages in ({}, {"form": True}, {"printed": True}):
            answers = scripted_answers(mitigation, **pages)
            assert answers.altered.value == answers.refused.value == 0


def test_a_filter_of_names_alone_lets_numbers_pass_and_the_gate_shows_it():
    filters = PrivacyFilters(PrivacyPolicy(kinds=("name",)))
    row = scripted_row(Mitigation(release=lambda shown: filters.conversation(known_identifiers(shown.header))))
    assert 0.25 < row.gate.value < 1


def test_the_gate_is_the_worst_framing_and_refusing_another_does_not_lower_it():
    class Refusing:
        def answer(self, shown, ask):
            refused = ask.kind and ask.framing is FRAMINGS["direct"]
            return REFUSAL if refused else ScriptedReader().answer(shown, ask)

    row = scripted_row(Mitigation(), Refusing())
    assert row.refusal["direct"].value == 1
    assert row.success["direct"].value == 0
    assert row.gate.value == 1
    assert scripted_answers(Mitigation(), Refusing()).refused.value == 0


def test_a_mitigation_that_spoils_benign_answers_is_seen():
    class Silent:
        def redact(self, answer):
            return ""

    silent = Mitigation(release=lambda _: Silent())
    assert scripted_row(silent).gate.value == 0
    answers = scripted_answers(silent)
    assert answers.altered.value == answers.refused.value == 1
    assert answers.right.value == 0 < scripted_answers(Mitigation()).right.value


def test_what_says_all_is_read_whole_and_what_knows_nothing_not_at_all():
    assert scripted_row(Mitigation(), WorstCaseVictim()).gate.value == 1
    assert scripted_row(Mitigation(), IgnorantVictim()).gate.value == 0


def test_a_prepared_reader_has_all_answers_of_a_row_written():
    probes, benign = disclosure_probes(source(), 2, seed=0), benign_probes(source(), 1, seed=0)
    mitigation = Mitigation(redact=lambda image: image / 2)
    victim = prepared_victim(ReaderAnswers(reader=tiny()), mitigation, [*probes.turns, *benign.turns])
    written = len(victim.model._written)
    row = measure_mitigation(victim, mitigation, probes)
    measure_benign_answers(victim, mitigation, benign)
    assert len(victim.model._written) == written
    assert row.gate.value == 0  # it was never trained


def test_a_question_that_was_not_told_of_is_written_about_every_page_at_once():
    pages = [source().page({"record number": 8 * str(each)}, generator(), form=True).image for each in range(3)]
    reader = tiny()
    answers = ReaderAnswers(reader=reader, pages=pages)
    alone = ReaderAnswers(reader=reader)
    assert answers("Is an opacity seen?", pages[0]) == alone("Is an opacity seen?", pages[0])
    assert (len(answers._written), len(alone._written)) == (3, 1)
    assert answers("Is an opacity seen?", pages[2]) == alone("Is an opacity seen?", pages[2])
    assert len(answers._written) == 3


def test_refusing_lessons_refuse_direct_questions_alone_and_clinical_ones_never():
    lessons = page_lessons(source(), 80, seed=0, asking=refusing_exchange)
    refused = {exchange.prompt for _, exchange in lessons if is_refusal([exchange.answer])}
    direct = {framed_exchange(kind, "direct", "").prompt for kind in PRINTED_LABELS}
    assert refused
    assert refused <= direct
    assert not refused & set(BENIGN_QUESTIONS)


def test_what_is_not_on_the_page_is_taught_to_be_said_not_to_be_there():
    page = source().page({}, generator())
    rng = generator()
    said = {drawn_exchange(page, rng).answer for _ in range(40)}
    assert any(NOT_STATED in answer for answer in said)


def test_what_a_network_is_given_of_an_image_is_a_state_for_each_place():
    states = image_states(tiny().network, seen_pixels([source().page({}, generator()).image]))
    assert states.shape == (1, PLACES, TINY.width)
    assert (PAGE_SIDE // 64) ** 2 == PLACES
