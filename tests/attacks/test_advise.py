"""Settings that need no training are tried on the rows that are not good, and none that another beats is advised."""

import io

import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from medward.attacks.advise import SETTINGS, TriedSetting, _left_text, beats_setting, changed_policy, try_settings
from medward.attacks.intervals import Interval
from medward.attacks.report.advised import print_settings, setting_text
from medward.attacks.report.comparison import worst_behind
from medward.attacks.validate import validate
from medward.attacks.validation.finding import Status
from medward.attacks.validation.journal import value_name
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations.cli import main

FEW = {name: SETTINGS[name] for name in ("as it is", "labels only")}


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """A small model that is broken, its bundle, its data and its report."""
    out = tmp_path_factory.mktemp("advise")
    rows = np.random.default_rng(0).normal(size=(700, 4)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(int)
    policy = Policy(on_error="withhold", threat={"table": 2.0})
    bundle = protect(
        LogisticRegression().fit(rows, labels), Split(rows[:300]), policy, out / "b", classes=["a", "b"], name="c"
    )
    data = {"test": Split(rows[300:], labels[300:])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 20)
        report = validate(bundle, data, out / "report", names=["fgsm"], progress=False)
        patch.setattr("medward.attacks.advise.SETTINGS", FEW)
        tried = try_settings(bundle, data, report, out / "advise", progress=False)
    return bundle, data, report, tried, out


def test_each_setting_is_tried_on_the_rows_that_are_not_good(journey):
    _, _, report, tried, _ = journey
    assert report.findings[0].status is Status.BROKEN
    assert [each.name for each in tried] == list(FEW)
    assert all([finding.attack for finding in each.report.findings] == ["fgsm"] for each in tried)
    assert all(each.report.quick for each in tried)
    assert len({each.report.provenance.policy for each in tried}) == 2, "each was judged under its own policy"
    assert any(each.best for each in tried)


def test_it_says_how_much_is_left(monkeypatch):
    monkeypatch.setattr("medward.attacks.advise.SETTINGS", {key: {} for key in "abcde"})
    assert _left_text(0.1, 0) == "the first of 5, whose time says that of the others"
    assert _left_text(40.0, 2) == "about 1 minute left, if others take as long"
    assert _left_text(400.0, 4) == "about 2 minutes left, if others take as long"


def test_it_is_printed_with_the_frontier_and_how_to_take_a_setting(journey):
    _, _, report, tried, _ = journey
    console = Console(width=200, record=True, file=io.StringIO())
    print_settings([tried[0], TriedSetting("labels only", tried[1].report, best=True)], report, console)
    text = console.export_text()
    assert "* labels only" in text
    assert 'labels only: [release] level = "label"' in text
    assert "fgsm" in text
    assert "medward harden MODEL" in text
    assert "validate what you take on rows set aside" in " ".join(text.split())


def test_a_setting_is_as_a_policy_has_it_and_changes_nothing_else():
    policy = Policy(on_error="flag", gate={"evasion_success": 0.1}, screen={"rate": 0.02})
    for name, changes in SETTINGS.items():
        changed = changed_policy(policy, changes)
        assert (changed.on_error, changed.gate) == (policy.on_error, policy.gate)
        assert (changed == policy) is (not changes)
        sections = "\n".join(
            setting_text(name).replace("] ", "]\n").replace("; ", "\n").replace(", ", "\n").splitlines()
        )
        assert not changes or Policy.from_toml(f'on_error = "flag"\n{sections}') != Policy(on_error="flag")


def test_a_setting_that_another_beats_is_not_on_the_frontier(journey):
    _, _, _, tried, _ = journey

    def point(refused, reached):
        report = tried[0].report
        finding = report.findings[0].model_copy(
            update={"judged_guarded": None, "judged_adaptive": Interval(reached, 0.0, 1.0, 9)}
        )
        site = report.clean.site.model_copy(update={"false_refusal": Interval(refused, 0.0, 1.0, 9)})
        clean = report.clean.model_copy(update={"site": site})
        return TriedSetting("x", report.model_copy(update={"findings": (finding,), "clean": clean}))

    assert beats_setting(point(0.01, 0.2), point(0.01, 0.5))
    assert beats_setting(point(0.0, 0.5), point(0.01, 0.5))
    assert not beats_setting(point(0.05, 0.2), point(0.01, 0.5)), "it costs more"
    assert not beats_setting(point(0.01, 0.5), point(0.01, 0.5)), "it is the same"
    assert worst_behind(point(0, 0.3).report.findings[0]).value == 0.3


def test_another_bundle_and_a_report_without_a_broken_row_are_refused(journey):
    bundle, data, report, _, out = journey
    facts = report.provenance.model_copy(update={"bundle": "f" * 64})
    with pytest.raises(MedwardError, match="is of bundle ffffffffffff"):
        try_settings(bundle, data, report.model_copy(update={"provenance": facts}), out)
    held = report.findings[0].model_copy(update={"status": Status.HELD})
    with pytest.raises(MedwardError, match="nothing to try"):
        try_settings(bundle, data, report.model_copy(update={"findings": (held,)}), out)


def test_the_command_takes_bundle_and_data_from_the_report_and_asks_for_what_is_missing(journey, monkeypatch, capsys):
    _, data, _, _, out = journey
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 20)
    monkeypatch.setattr("medward.attacks.advise.SETTINGS", {"labels only": SETTINGS["labels only"]})
    with pytest.raises(SystemExit) as failed:
        main(["advise", str(out / "report")])
    assert failed.value.code == 3
    assert "does not say where its data is; give --data" in capsys.readouterr().err
    np.savez(out / "data.npz", test_inputs=data["test"].inputs, test_labels=data["test"].labels)
    with pytest.raises(SystemExit) as done:
        main(["advise", str(out / "report"), "--data", str(out / "data.npz")])
    assert done.value.code == 0
    assert "labels only" in capsys.readouterr().out
    assert (out / "report" / "advise" / "0" / "report.html").exists()


def decides(outputs):
    return outputs.argmax(axis=1)


@pytest.fixture
def asked(monkeypatch, journey):
    """What `try_settings` says to `validate`, of a report made with some `settings` and `places`."""
    bundle, data, report, _, out = journey

    def ask(settings, places, now=None):
        said = {}
        facts = report.provenance.model_copy(update={"settings": settings})
        then = report.model_copy(update={"provenance": facts, "places": places})
        tried = then.provenance.model_copy(update={"settings": (settings if now is None else now) | {"rows": "100"}})

        def validate(*_, **given):
            said.update(given)
            return then.model_copy(update={"provenance": tried})

        monkeypatch.setattr("medward.attacks.advise.validate", validate)
        try_settings(bundle, data, then, out / "asked", progress=False)
        return said

    return ask


def test_what_was_said_for_the_report_is_said_again(asked):
    settings = {
        "integer": "0,2",
        "immutable": "3",
        "before": "ab",
        "output_key": "logits",
        "canaries": "cd",
        "manifest": "ef",
        "decide": value_name(decides),
    }
    said = asked(settings, {"before": "original.onnx", "canaries": "canaries.npz", "manifest": "membership.json"})
    assert (said["integer"], said["immutable"], said["output_key"]) == ([0, 2], [3], "logits")
    assert (said["before"], said["canaries"], said["manifest"]) == ("original.onnx", "canaries.npz", "membership.json")
    assert said["decide"] is decides
    assert "before" not in asked({}, {})


def test_what_cannot_be_said_again_is_refused(asked):
    with pytest.raises(MedwardError, match="made with before= and does not say where"):
        asked({"before": "ab"}, {})
    with pytest.raises(MedwardError, match="another now"):
        asked({"decide": value_name(decides)[:-1] + "x"}, {})
    with pytest.raises(MedwardError, match="another before than is there now"):
        asked({"before": "ab"}, {"before": "original.onnx"}, now={"before": "cd"})


def test_a_validation_says_which_features_it_was_told_to_leave(journey, monkeypatch, tmp_path):
    bundle, data, report, _, _ = journey
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 20)
    monkeypatch.setattr("medward.attacks.advise.SETTINGS", {"as it is": {}})
    bound = validate(bundle, data, tmp_path / "report", names=["fgsm"], immutable=[0], progress=False)
    assert bound.provenance.settings == {"immutable": "0"}
    row = bound.findings[0].model_copy(update={"status": Status.BROKEN})
    again = try_settings(bundle, data, bound.model_copy(update={"findings": (row,)}), tmp_path / "a", progress=False)
    assert again[0].report.provenance.settings == {"immutable": "0", "rows": "100"}
    assert report.provenance.settings == {}
