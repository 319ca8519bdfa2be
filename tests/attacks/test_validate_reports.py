"""The validation of a report model ends in a report: images are changed, texts stolen; what is not tested says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.report_models import FINDINGS, report_labels, report_policy
from support.report_networks import encoder_decoder
from support.report_thefts import STUDENT, coarse_images, text_thief
from typer.testing import CliRunner

from medward.attacks.evasion import PGD, HopSkipJump
from medward.attacks.evasion.family import Evasion
from medward.attacks.extraction import Knockoff
from medward.attacks.extraction.reports import AdaSteal, TextDistillation
from medward.attacks.membership import LossThreshold
from medward.attacks.report.comparison import load_report
from medward.attacks.suite import chosen_attacks, known_attacks
from medward.attacks.threat import Access
from medward.attacks.validate import model_before, validate
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Status
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.attacks.whitebox.ascent import Ascent
from medward.attacks.whitebox.report_network import ReportNetwork, white_box_writer
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.integrations.cli import app

WRITER = "support.report_models:corner_writer"
SAID = {"low": 0.0, "high": 1.0, "layout": "NCHW", "allow_code": True}
SPLITS = {name: Split(coarse_images(40, seed)) for seed, name in enumerate(("train", "test", "holdout"))}
WRONG = 10  # labels of the holdout in which a finding is the other way round
SPLITS["holdout"] = Split(SPLITS["holdout"].inputs, report_labels(SPLITS["holdout"].inputs, wrong=WRONG))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return protect(
        WRITER,
        Split(coarse_images(300, 9)),
        report_policy(),
        tmp_path_factory.mktemp("report") / "bundle",
        task="report",
        classes=FINDINGS,
        features="corners",
        **SAID,
    )


def test_default_attacks_of_a_report_model_have_names_of_their_own(bundle):
    spec = bundle.model.spec
    names = [each.name for each in chosen_attacks(spec, gradients=False)]
    assert {"ada-steal-text", "knockoff-text", "knockoff-text-diluted", "knockoff-hard"} <= set(names)
    assert {"hopskipjump", "hopskipjump-hide", "hopskipjump-raise", "uap", "uap-hide", "uap-raise"} <= set(names)
    assert {"pgd", "pgd-hide", "pgd-raise"} <= {each.name for each in chosen_attacks(spec)}
    assert len(set(names)) == len(names)
    families = {each.family for each in chosen_attacks(spec, gradients=False)}
    assert families == {"evasion", "extraction", "membership"}
    known = known_attacks(spec)
    assert {"ada-steal-align-text", "ada-steal-4-text", "lord-like-text", "noise-text", "in-domain-text"} <= set(known)
    assert all(name == attack.name for name, attack in known.items())


def test_evasion_and_thefts_are_judged_and_the_rest_is_not_tested(bundle, tmp_path):
    small = {"queries": 60, "epochs": 4}
    attacks = (
        HopSkipJump(epsilon=0.3, queries=20, rows=10),
        text_thief(AdaSteal(student=STUDENT, step=30, epochs=1, steps=2), **small),
        text_thief(TextDistillation(student=STUDENT), pool_share=0.5, **small),
        Knockoff(labels="hard", points=1, **small),
        LossThreshold(),
    )
    report = run_validation(Deployment(bundle=bundle), SPLITS, tmp_path / "out", attacks=attacks, progress=False)
    found = {each.attack: each for each in report.findings}
    for name in ("ada-steal-text", "knockoff-text-diluted", "knockoff-hard"):
        finding = found[name]
        assert finding.undefended is not None
        assert finding.guarded is not None
        assert finding.adaptive is not None
        assert "clone, label F1" in finding.curves["undefended"]
    evaded = found["hopskipjump"]
    assert evaded.undefended is not None
    assert evaded.undefended.value > 0
    assert evaded.guarded is not None
    assert evaded.adaptive is not None
    assert found["membership-loss"].undefended is None
    assert found["membership-loss"].status is Status.INCONCLUSIVE
    assert found["membership-loss"].reasons[0].startswith("not tested: ")
    site = report.clean.site
    assert site.n == len(SPLITS["holdout"])
    assert site.accuracy.undefended.value == site.accuracy.guarded.value == 1 - WRONG / site.n
    assert set(site.sensitivity) == set(FINDINGS)
    assert site.specificity["pneumothorax"].undefended.value == 1 > site.specificity["effusion"].undefended.value
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("ada-steal-text")
    assert "the texts that leave; a public pool" in page
    assert "Report writers, prompts" not in page
    assert "prompts other than the bundle&#39;s own" in page
    again = run_validation(Deployment(bundle=bundle), SPLITS, tmp_path / "out", attacks=attacks, progress=False)
    assert again.findings == report.findings == load_report(tmp_path / "out", "out").findings


@pytest.mark.parametrize(
    ("wrong", "told"), [({"train": 0, "holdout": 40}, True), ({"train": 16, "holdout": 16}, False)]
)
def test_membership_is_told_by_findings_where_labels_say_what_is_true(bundle, tmp_path, wrong, told):
    splits = {name: coarse_images(40, 3 + at) for at, name in enumerate(wrong)}
    labelled = {name: Split(images, report_labels(images, wrong=wrong[name])) for name, images in splits.items()}
    (finding,) = run_validation(
        Deployment(bundle=bundle),
        {**labelled, "test": SPLITS["test"]},
        tmp_path / "out",
        attacks=(LossThreshold(),),
        progress=False,
    ).findings
    for arm in (finding.undefended, finding.guarded, finding.adaptive):
        assert (arm.low > 0.5) == told
    assert any("Of a report its findings were asked about" in reason for reason in finding.reasons)


def test_a_finding_says_how_many_candidates_a_model_that_writes_was_not_asked_about(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("medward.attacks.membership.family.WRITTEN", 10)
    splits = {name: coarse_images(40, 3 + at) for at, name in enumerate(("train", "holdout"))}
    labelled = {name: Split(images, report_labels(images)) for name, images in splits.items()}
    given = {**labelled, "test": SPLITS["test"]}
    run = run_validation(Deployment(bundle=bundle), given, tmp_path / "out", attacks=(LossThreshold(),), progress=False)
    said = "Of 40 rows that were trained on and 20 that were not, 10 each were asked about"
    assert any(reason.startswith(said) for reason in run.findings[0].reasons)


def test_controls_of_membership_do_not_teach_a_network_that_writes(bundle, tmp_path, monkeypatch):
    taught = []
    monkeypatch.setattr(
        "medward.attacks.membership.family.control_examinations", lambda network, *_, **__: taught.append(network) or ()
    )
    labelled = {name: Split(split.inputs, report_labels(split.inputs)) for name, split in SPLITS.items()}
    deployment = Deployment(bundle=bundle, network=torch.nn.Identity())
    run_validation(deployment, labelled, tmp_path / "out", attacks=(LossThreshold(),), progress=False)
    assert taught
    assert set(taught) == {None}


def test_the_entry_takes_a_report_bundle(bundle, tmp_path):
    report = validate(bundle, SPLITS, tmp_path / "out", names=("membership-loss",), progress=False)
    assert [each.status for each in report.findings] == [Status.INCONCLUSIVE]
    assert np.isfinite(report.clean.site.false_refusal.value)


def short_writer(tower=1.0):
    """A writer, the weights of whose tower are so many times what they were drawn as."""
    writer = encoder_decoder(1)
    writer.network.generation_config.max_new_tokens = 6
    for weight in writer.tower.parameters():
        weight.data.mul_(tower)
    return writer


def bundled_writer(folder):
    """A bundle of a network that writes, and splits of noise."""
    rng = np.random.default_rng(0)
    benign = Split(rng.random((80, 1, 16, 16)).astype(np.float32))
    said = {"task": "report", "classes": ("effusion", "cardiomegaly"), "low": 0.0, "high": 1.0}
    made = protect(short_writer(), benign, report_policy(), folder, **said)
    return made, {name: Split(rng.random((30, 1, 16, 16)).astype(np.float32)) for name in ("train", "test")}


def test_the_writer_before_hardening_is_followed_too(tmp_path):
    made, splits = bundled_writer(tmp_path / "bundle")
    before = model_before(short_writer(tower=1.05), made, splits)
    assert before.no_network == ""
    assert isinstance(before.network, ReportNetwork)


def test_who_does_not_know_the_guard_does_not_search_a_writer_s_network_again(tmp_path, monkeypatch):
    made, splits = bundled_writer(tmp_path / "bundle")
    network, _ = white_box_writer(made.model, splits["train"].inputs, most=2)
    few = {name: split.take(slice(0, 10)) for name, split in splits.items()}
    searched = []
    monkeypatch.setattr(PGD, "search", lambda self, search, x, y: searched.append(len(x)) or Ascent.nothing(x))
    monkeypatch.setattr("medward.attacks.evasion.setup.evasion_flags", lambda *_, **__: ())
    held = share_rows(made.model, conform_splits(few, made.model.spec), seed=0).data
    deployment = Deployment(bundle=made, network=network)
    attack, runs = PGD(epsilon=0.1, steps=2, restarts=1), []
    for arm in ("undefended", "guarded"):
        attack.run(Evasion().target(deployment, arm, attack, held), held, seed=0)
        runs.append(len(searched))
    assert runs[0] == runs[1] > 0


@pytest.mark.slow
def test_a_network_that_writes_is_attacked_by_its_own_gradients(tmp_path):
    made, splits = bundled_writer(tmp_path / "bundle")
    splits = {name: split.take(slice(0, 12)) for name, split in splits.items()}
    network, reason = white_box_writer(made.model, splits["train"].inputs, most=2)
    assert reason == ""
    report = run_validation(
        Deployment(bundle=made, network=network),
        splits,
        tmp_path / "out",
        attacks=(PGD(epsilon=0.1, steps=2, restarts=1),),
        progress=False,
    )
    (finding,) = report.findings
    assert finding.threat.access is Access.GRADIENTS
    assert finding.undefended.value > finding.baseline.value
    assert finding.guarded is not None
    assert finding.adaptive is not None
    assert not any(flag.startswith("no white-box network") for flag in finding.flags)


def test_the_command_ends_in_a_report_that_is_not_good(bundle, tmp_path):
    np.savez(tmp_path / "data.npz", **{f"{name}_inputs": split.inputs for name, split in SPLITS.items()})
    said = ["--allow-code", "--attacks", "membership-loss", "-o", str(tmp_path / "out")]
    run = CliRunner().invoke(app, ["validate", str(bundle.path), "--data", str(tmp_path / "data.npz"), *said])
    assert "INCONCLUSIVE: " in run.output
    assert "attack could not be decided." in run.output
    assert 'membership-loss: not tested: membership needs labels, the split "train" has none' in run.output


def test_stages_that_take_minutes_are_said_as_they_begin_and_silence_is_kept(bundle, tmp_path, capsys, caplog):
    def run(out, progress):
        with caplog.at_level("INFO", logger="medward.data"):
            run_validation(
                Deployment(bundle=bundle),
                SPLITS,
                tmp_path / out,
                attacks=(HopSkipJump(epsilon=0.3, queries=5, rows=5),),
                progress=progress,
            )
        return capsys.readouterr().err.splitlines()

    lines = run("told", True)
    assert lines.index("clean cost: begun") < next(i for i, each in enumerate(lines) if "refused" in each)
    assert lines.index("hopskipjump, guarded: begun") < next(
        i
        for i, each in enumerate(lines)
        if each.startswith("hopskipjump, guarded: 0") or "hopskipjump, guarded: 1" in each
    )
    assert f"reports: written about {len(SPLITS['test'])} rows that attacks are judged on" in caplog.text
    assert not [each for each in run("told", True) if each.endswith("begun")], "what was kept is not begun again"
    assert run("silent", False) == []
