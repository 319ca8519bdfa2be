"""From a report function to a bundle and back: what the card says, and what is kept."""

from __future__ import annotations

import logging
from math import ceil, log2

import numpy as np
import pytest
from support.report_models import FINDINGS, SHAPE, corner_writer, report_images, report_policy
from typer.testing import CliRunner

from medward.guard.audit.log import read_log
from medward.guard.audit.replay import replay_log
from medward.guard.bundle.folder import load_bundle, seal_bundle
from medward.guard.bundle.make import protect
from medward.guard.bundle.site import calibrate_site
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.guard.release.capacity import text_bits
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import CHEST_TERMS
from medward.guard.types import Level, Query
from medward.integrations.cli import app

WRITER = "support.report_models:corner_writer"
SAID = {"low": 0.0, "high": 1.0, "layout": "NCHW", "allow_code": True}
ROWS = report_images(6, 9)


def made_bundle(path, policy=None, **settings):
    chosen = {"task": "report", "classes": FINDINGS, "features": "corners", **settings}
    return protect(
        WRITER,
        Split(report_images(300, 1)),
        policy or report_policy(screen={"action": "allow"}),
        path,
        **SAID,
        **chosen,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return made_bundle(tmp_path_factory.mktemp("report") / "bundle")


def ask(guard, rows=ROWS):
    return guard.answer(Query(principal=("clinic", "key"), inputs=rows))


def test_a_bundle_says_what_is_decided_and_answers_as_the_function(bundle):
    task = bundle.card.spec.task
    assert task == WrittenReport(findings=FINDINGS)
    assert task.words == tuple(CHEST_TERMS[each] for each in FINDINGS)
    assert bundle.card.model == "entrypoint.json"
    assert bundle.card.spec.features == 4
    with pytest.raises(MedwardError, match="imports code; pass allow_code"):
        load_bundle(bundle.path)
    loaded = load_bundle(bundle.path, allow_code=True)
    answer = ask(loaded.guard(ephemeral=True))
    own = ["".join(each) for each in corner_writer(ROWS)]
    assert answer.labels.tolist() == task.decide(task.read(own, "m")).tolist()
    for text, written in zip(answer.texts, own, strict=True):
        assert "Smith" in written
        assert "Smith" not in text
        assert text.startswith(written[: written.index(" Read")])


@pytest.mark.parametrize("named", [FINDINGS[:1], FINDINGS])
def test_findings_that_reports_name_and_no_decision_has_are_told(named, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        made_bundle(tmp_path / "bundle", classes=named)
    told = [each.message for each in caplog.records if "also speak of" in each.message]
    assert bool(told) == (named != FINDINGS)
    if told:
        assert "cardiomegaly (" in told[0]
        assert "effusion" not in told[0]


def test_names_of_findings_are_known_as_data_sets_write_them():
    task = WrittenReport(findings=("Effusion", "Pleural_Thickening"))
    assert task.words == (CHEST_TERMS["effusion"], CHEST_TERMS["pleural thickening"])
    assert task.word(int(task.decide(task.read(["Possible effusion."], "m"))[0])) == {"Effusion": "uncertain"}


def test_a_state_folder_remembers_streams_and_the_log_replays(bundle, tmp_path):
    with load_bundle(bundle.path, allow_code=True).guard(state=tmp_path / "state") as guard:
        ask(guard)
        query = Query(principal=("clinic", "key"), inputs=ROWS[:1])
        list(guard.stream(query))
        guard.stream(query).close()
    records = list(read_log(tmp_path / "state" / "audit.jsonl"))
    replayed = replay_log(records, [bundle.policy], bundle.profile)
    assert replayed.verdicts == 2 * 3
    assert replayed.unfinished == [4]
    assert not any("Smith" in str(each) or "enlarged" in str(each) for each in records)


def test_the_level_that_was_left_open_is_full_and_label_can_be_chosen(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        made = made_bundle(tmp_path / "a", Policy.model_validate({"on_error": "withhold"}))
    assert "answers leave at level full" in caplog.text
    assert made.policy.release.default is Level.FULL
    with pytest.raises(MedwardError, match=r"release.level = .rounded.: .* full, label, withheld"):
        made_bundle(tmp_path / "b", report_policy(release={"level": "rounded"}))
    coarse = made_bundle(tmp_path / "c", report_policy(release={"level": "label"}, screen={"action": "allow"}))
    assert ask(coarse.guard(ephemeral=True)).texts == (None,) * len(ROWS)


def test_training_text_is_taken_out_where_the_policy_says_so(tmp_path):
    policy = report_policy(screen={"action": "allow"}, privacy={"memory": True})
    made = made_bundle(tmp_path / "bundle", policy)
    with pytest.raises(MedwardError, match="there is no memory filter"):
        made.guard(ephemeral=True)
    own = "".join(corner_writer(ROWS[:1])[0])
    memory = MemoryFilter.fit([own], ["patient 1"], salt=bytes(16))
    answer = ask(made.guard(ephemeral=True, memory=memory), ROWS[:1])
    plain = ask(made_bundle(tmp_path / "plain").guard(ephemeral=True), ROWS[:1])
    assert plain.texts[0] is not None  # the control
    task = made.card.spec.task
    assert answer.labels.tolist() == task.decide(task.read([own], "m")).tolist()
    assert answer.texts == (None,)  # the marks took the findings
    assert answer.levels == (Level.LABEL,)


def test_the_command_protects_a_report_function(tmp_path):
    np.savez(tmp_path / "data.npz", inputs=report_images(300, 1))
    policy = tmp_path / "policy.toml"
    policy.write_text(report_policy().to_toml())
    said = ["--task", "report", "--classes", ",".join(FINDINGS), "--features", "corners", "--layout", "NCHW"]
    where = ["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "bundle"), "--policy", str(policy)]
    done = CliRunner().invoke(app, ["protect", WRITER, *where, *said, "--low", "0", "--high", "1"])
    assert done.exit_code == 0, done.output
    assert load_bundle(tmp_path / "bundle", allow_code=True).card.spec.task == WrittenReport(findings=FINDINGS)
    up = [ceil(1000 * each) / 1000 for each in (text_bits(4096, 256), 3 * log2(3))]
    prices = f"[budget]: a report costs {up[0]:,.3f} bits, its findings alone {up[1]:.3f}"
    assert prices in done.output, "a limit is chosen by what an answer costs"


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (1, "the budget admits no answer: one costs 4.755 bits at least, and the limit is 1; every answer is withheld"),
        (60_000, "one costs 32,768.006 bits, and 30000 of the limit are for such; answers leave at level label"),
        (70_000, ""),
        (0, ""),
    ],
)
def test_a_budget_that_admits_no_report_is_told_by_who_serves_it(tmp_path, bits, said):
    policy = report_policy(budget={"daily_bits": bits}, screen={"action": "allow"})
    made_bundle(tmp_path / "bundle", policy)
    guard = load_bundle(tmp_path / "bundle", allow_code=True).guard(ephemeral=True)
    notes = [note for note in guard.notes if "the budget admits no answer" in note]
    answer = ask(guard, ROWS[:1])
    guard.close()
    assert len(notes) == bool(said)
    assert all(note.endswith(said) for note in notes)
    expected = Level.WITHHELD if bits == 1 else Level.LABEL if said else Level.FULL
    assert answer.levels == (expected,), "as it was told"


def test_what_follows_a_bundle_takes_it(bundle, tmp_path):
    made = made_bundle(tmp_path / "bundle")
    sited = calibrate_site(tmp_path / "bundle", Split(report_images(300, 2)), "clinic", allow_code=True)
    assert "clinic" in sited.sites
    (tmp_path / "bundle" / "policy.toml").write_text(
        report_policy(release={"level": "label"}, screen={"action": "allow"}).to_toml()
    )
    with pytest.raises(IntegrityError):
        load_bundle(tmp_path / "bundle", allow_code=True)
    seal_bundle(tmp_path / "bundle")
    again = load_bundle(tmp_path / "bundle", allow_code=True)
    assert ask(again.guard(ephemeral=True)).texts == (None,) * len(ROWS)
    assert made.card.spec.shape == SHAPE == bundle.card.spec.shape


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"classes": ("gout",)}, "no words are known for 'gout'"),
        ({"threshold": 0.5}, "threshold: means nothing for a model of task report"),
        ({"tolerance": 1.0}, "tolerance: means nothing"),
        ({"output": "logits"}, "output: means nothing"),
        ({"sensitivity": 0.9}, "sensitivity: is for two classes or several findings"),
        ({"policy": report_policy(certify={"enabled": True, "radius": 1.0})}, "of which nothing can be proven"),
    ],
)
def test_what_means_nothing_for_reports_is_refused(tmp_path, settings, says):
    with pytest.raises(MedwardError, match=says):
        made_bundle(tmp_path / "bundle", **settings)
