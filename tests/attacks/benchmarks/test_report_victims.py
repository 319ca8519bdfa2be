"""Networks of both kinds learn to write what they see, are saved as a user's are, and go on where they stopped."""

import numpy as np
import pytest
import torch
from support.toy_reports import FINDINGS, SIZE, toy_report_data

from medward.attacks.benchmarks.reports import report_training
from medward.attacks.benchmarks.reports.report_loss import written_loss
from medward.attacks.benchmarks.reports.report_networks import (
    PROMPT,
    REPORTER_KINDS,
    build_reporter,
    prompt_of,
    save_writer,
)
from medward.attacks.benchmarks.reports.report_scores import fact_labels, label_scores, report_labels
from medward.attacks.benchmarks.reports.report_training import (
    ReporterTraining,
    fact_targets,
    rate_share,
    sampling_weights,
    seen_images,
    train_reporter,
)
from medward.attacks.learners.report_tokenizer import IMAGE, report_tokenizer
from medward.attacks.whitebox.written_texts import write_texts
from medward.guard import models
from medward.guard.errors import MedwardError
from medward.guard.models.huggingface_report import open_writer
from medward.guard.models.sources import open_source
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

DATA = toy_report_data(32)
TRAIN = DATA.splits["train"]
QUICK = ReporterTraining(warm_up=1, epochs=2, batch=8)
LONGEST = 12


def quick(kind, **settings):
    return train_reporter(DATA, kind, settings.pop("training", QUICK), size=SIZE, **settings)


def weights_of(writer):
    return torch.cat([each.detach().flatten() for each in writer.network.parameters()])


@pytest.mark.parametrize("kind", REPORTER_KINDS)
def test_a_trained_network_is_opened_and_guarded_as_a_users_folder_is(kind, tmp_path):
    writer = quick(kind)
    save_writer(writer, tmp_path / "model")
    opened = open_writer(tmp_path / "model")
    own = write_texts(writer, torch.from_numpy(TRAIN.images[:3]), prompt_of(kind), LONGEST)
    assert write_texts(opened, torch.from_numpy(TRAIN.images[:3]), prompt_of(kind), LONGEST) == own
    spec = ModelSpec(
        name="reporter",
        modality="image",
        shape=DATA.shape,
        task=WrittenReport(findings=FINDINGS, length=LONGEST, vocabulary=opened.vocabulary, prompt=prompt_of(kind)),
        low=0.0,
        high=1.0,
    )
    model = models.wrap(open_source(tmp_path / "model").model, spec=spec, sample=TRAIN.images[:4])
    said = model.predict(TRAIN.images[:3])
    assert said.texts == tuple(own)
    assert said.features.shape == (3, SIZE.width)


@pytest.mark.parametrize("kind", REPORTER_KINDS)
def test_the_loss_is_of_the_tokens_that_are_written_one_by_one(kind):
    writer = quick(kind)
    pixels = torch.from_numpy(TRAIN.images[:1])
    text = write_texts(writer, torch.from_numpy(TRAIN.images[:1]), prompt_of(kind), LONGEST)[0]
    assert text == "".join(writer.pieces(pixels, prompt_of(kind), LONGEST))
    with torch.no_grad():
        likely = float(written_loss(writer, pixels, prompt_of(kind), [text]))
        other = float(written_loss(writer, pixels, prompt_of(kind), [TRAIN.reports[0]]))
    assert likely < other
    pixels.requires_grad_()  # an attacker on the image needs its gradient
    written_loss(writer, pixels, prompt_of(kind), [text]).backward()
    assert float(pixels.grad.abs().max()) > 0


@pytest.mark.parametrize("kind", REPORTER_KINDS)
def test_the_mean_loss_of_reports_is_that_of_each_alone(kind):
    writer = quick(kind)
    pixels, reports = torch.from_numpy(TRAIN.images[:3]), TRAIN.reports[:3]
    with torch.no_grad():
        together = float(written_loss(writer, pixels, prompt_of(kind), reports))
        alone = [float(written_loss(writer, pixels[[at]], prompt_of(kind), [reports[at]])) for at in range(3)]
    lengths = [len(writer.tokenizer(report, add_special_tokens=False).input_ids) + 1 for report in reports]
    assert len(set(lengths)) > 1
    assert together == pytest.approx(np.average(alone, weights=lengths), rel=1e-4)


@pytest.mark.parametrize("stage", ["warm-up", "writing"])
def test_a_stopped_training_ends_as_one_that_was_not(stage, tmp_path, monkeypatch):
    training = ReporterTraining(warm_up=2, epochs=2, batch=8)
    whole = weights_of(quick("llava", training=training))
    file, kept = tmp_path / "part" / "checkpoint.pt", report_training.write_durably

    def stopping(path, content):
        kept(path, content)
        state = torch.load(path, weights_only=True)
        if state["stage"] == stage and state["epochs"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(report_training, "write_durably", stopping)
    with pytest.raises(KeyboardInterrupt):
        quick("llava", training=training, checkpoint=file)
    monkeypatch.setattr(report_training, "write_durably", kept)
    assert torch.equal(weights_of(quick("llava", training=training, checkpoint=file)), whole)
    assert not torch.equal(
        weights_of(quick("llava", training=ReporterTraining(warm_up=2, epochs=2, batch=8, seed=1))), whole
    )
    with pytest.raises(MedwardError, match="is of another training"):
        quick("llava", checkpoint=file)


def test_rare_findings_are_drawn_more_often_and_normal_images_as_often_as_before():
    weights = sampling_weights(TRAIN.facts, 1.0).numpy()
    some = np.array([bool(each.present) for each in TRAIN.facts])
    assert weights[some].mean() == pytest.approx(1.0)
    assert set(weights[~some]) == {1.0}
    names = [name for each in TRAIN.facts for name in each.present]
    rare = min(FINDINGS, key=names.count)
    assert names.count(rare) < names.count(next(each for each in FINDINGS if each != rare))
    assert min(weights[[rare in each.present for each in TRAIN.facts]]) > min(weights[some])
    assert set(sampling_weights(TRAIN.facts, 0.0).tolist()) == {1.0}


def test_what_is_known_of_an_image_is_what_the_tower_is_warmed_up_on():
    targets = fact_targets(TRAIN.facts, FINDINGS)
    assert targets.shape == (len(TRAIN), len(FINDINGS) + 2 + 3)
    np.testing.assert_array_equal(targets[:, :2].numpy() > 0, fact_labels(TRAIN.facts, FINDINGS)[:, :2])
    assert not targets[:, 2:].any()


def test_a_rate_rises_and_falls_to_nothing():
    shares = [rate_share(step, 100) for step in range(101)]
    top = int(np.argmax(shares))
    assert max(shares) == 1.0
    assert 10 < top < 20
    assert sorted(shares[:top]) == shares[:top]
    assert sorted(shares[top:], reverse=True) == shares[top:]
    assert shares[100] == 0.0
    assert rate_share(0, 1) == 1.0


def test_baselines_see_the_images_of_others_or_none():
    shuffled = seen_images(TRAIN, ReporterTraining(sight="shuffled"))
    assert np.isclose(shuffled.images.sum(), TRAIN.images.sum())
    assert not np.array_equal(shuffled.images, TRAIN.images)
    assert shuffled.reports == TRAIN.reports
    assert not seen_images(TRAIN, ReporterTraining(sight="blank")).images.any()
    assert seen_images(TRAIN, ReporterTraining()) is TRAIN


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: ReporterTraining(sight="closed"), "sight: must be one of images, shuffled, blank"),
        (lambda: ReporterTraining(epochs=0), "epochs: must be 1 or more, got 0"),
        (lambda: build_reporter("gpt", DATA.shape, None), "kind: must be one of"),
        (lambda: build_reporter("llava", (1, 28, 28), None), "a side of whole 16s"),
    ],
)
def test_what_cannot_be_trained_is_refused(act, says):
    with pytest.raises(MedwardError, match=says):
        act()


def test_the_tokenizer_gives_texts_back_and_one_token_for_an_image():
    tokenizer = report_tokenizer(TRAIN.reports)
    for report in TRAIN.reports:
        assert tokenizer.decode(tokenizer(report).input_ids, skip_special_tokens=True) == report
    assert tokenizer(PROMPT).input_ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", REPORTER_KINDS)
def test_what_is_in_an_image_is_learned_and_not_without_it(kind):
    data, found = toy_report_data(600), {}
    for sight in ("images", "shuffled"):
        training = ReporterTraining(warm_up=6, epochs=25, batch=16, balance=0.0, tower_share=0.3, sight=sight)
        writer = train_reporter(data, kind, training, size=SIZE)
        test = data.splits["test"]
        texts = write_texts(writer, torch.from_numpy(test.images), prompt_of(kind), SIZE.context - 1)
        truth = fact_labels(test.facts, FINDINGS)
        found[sight] = label_scores(truth, report_labels(texts, FINDINGS), FINDINGS).micro
    assert found["images"].value > 0.9
    assert found["shuffled"].high < found["images"].low
