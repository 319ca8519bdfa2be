"""What a served model does with files that show text, and what its metrics count."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from support.burned_in import PLANTED
from support.dicom_files import dicom_file
from support.models import MeanModel

from medward.guard.audit.log import AuditLog
from medward.guard.intake.decode import file_pictures
from medward.guard.intake.deidentify.reading import ReadText
from medward.guard.intake.deidentify.regions import Region
from medward.guard.policy import Policy
from medward.guard.preparation import Preparation
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.release.privacy_filters import PrivacyFilters
from medward.guard.release.text import KnownIdentifiers
from medward.integrations.serving.metrics import Metrics

WHITE, GREY = np.full((8, 12), 255, np.uint8), np.random.default_rng(0).integers(0, 200, (8, 12), np.uint8)
WHITE[:, -2:] = 9  # an image of one value has no contrast


class LargeReader:
    """Reads a planted name in images that are mostly white, if they are larger than the model's own."""

    def __init__(self, failing=None):
        self.failing = failing

    def read(self, grey, *, scale=1.0):
        if self.failing and grey.any():
            raise self.failing
        large = grey.shape > (4, 6) and np.mean(grey == 255) > 0.5
        return (ReadText(PLANTED, Region(0, 0, *grey.shape), 0.9),) if large else ()


@pytest.fixture
def asked(client, image_profile, png, tmp_path):
    """Send images as files, or as numbers, to a model of 4 x 6 pixels that reads text; the client and its answer."""

    def send(action, *images, failing=None, numbers=False):
        policy = Policy(
            on_error="flag",
            screen={"action": "allow"},
            duplicates={"watch": False},
            privacy={"burned_in_text": action},
        )
        parts = {"model": MeanModel(), "profile": image_profile, "text_reader": LargeReader(failing)}
        made = client(policy, guard_parts={**parts, "audit": AuditLog(tmp_path / "log.jsonl")}, resize=True)
        if numbers:
            inputs = [(image[::2, ::2][None] / 255).tolist() for image in images]
            return made, made.post("/v1/predict", json={"inputs": inputs})
        return made, made.post("/v1/predict", files=[("image", ("x", png(image))) for image in images])

    return send


def counted(client, name):
    return dict(re.findall(rf"^{name}_total\{{(.*)\}} (.*)$", client.get("/metrics").text, re.MULTILINE))


def test_a_file_is_read_at_its_own_size_and_withheld_alone(asked):
    client, answer = asked("withhold", WHITE, GREY)
    assert answer.json()["levels"] == ["withheld", "rounded"]
    assert "burned" not in answer.text, "what a defense concluded is not the client's"
    verdicts = counted(client, "medward_verdicts")
    assert verdicts['action="withhold",source="burned-in-text"'] == "1.0"


def test_the_control_without_text_or_where_it_is_allowed_files_are_answered(asked):
    assert asked("withhold", GREY, GREY)[1].json()["levels"] == ["rounded"] * 2
    client, answer = asked("allow", WHITE)
    assert answer.json()["levels"] == ["rounded"]
    assert not [each for each in counted(client, "medward_verdicts") if "burned-in-text" in each]


def test_numbers_are_read_at_the_model_s_size_which_a_probe_is_told_is_too_small(asked):
    client, answer = asked("withhold", WHITE, numbers=True)
    assert answer.json()["levels"] == ["rounded"]
    assert "burned-in text is read in larger files alone" in client.get("/readyz").text
    assert "burned-in" not in asked("allow", GREY)[0].get("/readyz").text


@pytest.mark.parametrize("failing", [None, RuntimeError(f"saw {PLANTED}")])
def test_nothing_a_server_writes_holds_what_was_read(asked, tmp_path, caplog, failing):
    client, answer = asked("flag", WHITE, failing=failing)
    assert answer.json()["levels"] == ["rounded"]
    source = "error" if failing else "burned-in-text"
    assert counted(client, "medward_verdicts")[f'action="flag",source="{source}"'] == "1.0"
    written = (tmp_path / "log.jsonl").read_text()
    assert "burned-in-text" in written
    for text in (written, caplog.text, answer.text, client.get("/metrics").text, client.get("/readyz").text):
        assert PLANTED not in text


def test_redactions_are_counted_by_kind_and_never_by_value():
    metrics, filters = Metrics(), PrivacyFilters(PrivacyPolicy())
    metrics.redactions(lambda: filters.replaced)
    assert b"medward_redactions_total{" not in metrics.text(), "the control: nothing was replaced"
    known = KnownIdentifiers.from_mapping({"name": f"{PLANTED} Ada"})
    for _ in range(3):
        filters.conversation(known).redact(f"Ada {PLANTED}, seen on March 5, 2023.")
    shown = metrics.text().decode()
    assert 'medward_redactions_total{kind="name"} 3.0' in shown
    assert 'medward_redactions_total{kind="date"} 3.0' in shown
    assert PLANTED not in shown


SPEC = replace(MeanModel(low=-1.0, high=3.0).spec, bits=8)
RESIZED = replace(SPEC, prepare=Preparation(resize=(6, 8), crop=(4, 6)))


def test_files_own_images_are_whole_and_in_the_model_s_range(png):
    [make] = file_pictures([png(WHITE)], RESIZED, pixels=1000)
    np.testing.assert_allclose(make(), (WHITE / 255 * 4 - 1)[None], atol=1e-5)
    colours = np.repeat(GREY[..., None], 3, axis=2)
    [make] = file_pictures([png(colours)], RESIZED, pixels=1000)
    assert make().shape == (3, 8, 12)


def test_a_dicom_file_s_own_image_is_in_the_window_that_the_model_takes():
    spec = replace(RESIZED, prepare=replace(RESIZED.prepare, window=(100.0, 100.0)), bits=None)
    [make] = file_pictures([dicom_file(WHITE)], spec, pixels=1000)
    assert make().shape == (1, 8, 12)
    assert (float(make().min()), float(make().max())) == (-1.0, 3.0)


def test_nothing_is_decoded_before_it_is_asked_for_nor_where_files_have_the_model_s_size(png):
    assert file_pictures([png(GREY[:4, :6])], SPEC, pixels=1000) == ()
    assert len(file_pictures([b"no image"], SPEC, pixels=1000, resize=True)) == 1
