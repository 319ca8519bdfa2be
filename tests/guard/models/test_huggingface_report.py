"""Transformers that write about images: the text is generate's own, alone, in a batch, in pieces, and in a bundle."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.report_models import report_guard, report_images, report_policy
from support.report_networks import VOCABULARY, encoder_decoder, llava_writer, word_tokenizer

from medward.guard import models
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_report import REPORT_ARCHIVE
from medward.guard.models.sources import open_source
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Query

FINDINGS = ("effusion", "cardiomegaly", "pneumothorax")
LENGTH = 12
ROWS = report_images(8, 3)
MAKERS = {"encoder and decoder": encoder_decoder, "LLaVA": llava_writer}
PROMPTS = {"encoder and decoder": "", "LLaVA": "is there effusion and"}


def spec_of(name, **settings):
    said = {"findings": FINDINGS, "length": LENGTH, "vocabulary": VOCABULARY, "prompt": PROMPTS[name], **settings}
    return ModelSpec(name="m", modality="image", shape=(1, 16, 16), task=WrittenReport(**said), low=0.0, high=1.0)


def wrapped(name, seed=0):
    return models.wrap(MAKERS[name](seed), spec=spec_of(name), sample=report_images(16))


def generated(writer, row, prompt):
    """The text by transformers' own generate."""
    pixels, given = torch.from_numpy(row[None]), {}
    if not writer.encodes:
        ids = writer.tokenizer(prompt).input_ids
        ids = [ids[0], *[writer.image_token] * 4, *ids[1:]]
        given = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    found = writer.network.generate(pixel_values=pixels, **given, do_sample=False, num_beams=1, max_new_tokens=LENGTH)[
        0
    ].tolist()
    return writer.tokenizer.decode(found[len(given["input_ids"][0]) if given else 1 :], skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MAKERS)
def test_the_text_is_what_generate_writes(name):
    seen = set()
    for seed in range(4):
        writer = MAKERS[name](seed)
        for row in ROWS[:5]:
            own = "".join(writer.pieces(torch.from_numpy(row[None]), PROMPTS[name], LENGTH))
            assert own == generated(writer, row, PROMPTS[name])
            seen.add(own)
    assert len(seen) > 10
    writer.network.generation_config.repetition_penalty = 3.0  # the control: and what is refused for it
    changed = [generated(writer, row, PROMPTS[name]) for row in ROWS]
    assert changed != ["".join(writer.pieces(torch.from_numpy(row[None]), PROMPTS[name], LENGTH)) for row in ROWS]
    with pytest.raises(MedwardError, match=r"repetition_penalty = 3\.0"):
        PretrainedWriter(network=writer.network, tokenizer=writer.tokenizer)


@pytest.mark.parametrize(("setting", "value"), [("num_beams", 4), ("do_sample", True), ("penalty_alpha", 0.6)])
def test_a_writer_that_is_set_to_search_or_sample_is_refused(setting, value):
    writer = encoder_decoder()
    setattr(writer.network.generation_config, setting, value)
    with pytest.raises(MedwardError, match=f"{setting} = {value}.*decoded greedily"):
        PretrainedWriter(network=writer.network, tokenizer=writer.tokenizer)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_alone_in_a_batch_in_pieces_and_as_served_are_alike(name):
    model = wrapped(name)
    whole = model.predict(ROWS)
    assert len(set(whole.texts)) > 3
    assert whole.features.shape == (len(ROWS), 32) == (len(ROWS), model.spec.features)
    assert len(np.unique(whole.features.round(4), axis=0)) == len(ROWS)
    served = models.as_served(model)
    for at, text in enumerate(whole.texts):
        alone = model.predict(ROWS[[at]])
        assert alone.texts == (text,)
        np.testing.assert_array_equal(alone.features, whole.features[[at]])
        assert "".join(pieces := list(model.prefill(ROWS[[at]]).texts[0])) == text
        assert len(pieces) > 1 or " " not in text
    again = served.predict(ROWS)
    assert again.texts == whole.texts
    np.testing.assert_allclose(again.features, whole.features, atol=1e-6)


def test_a_prompt_of_the_task_changes_what_is_written():
    texts = {
        prompt: models.wrap(llava_writer(), spec=spec_of("LLaVA", prompt=prompt), sample=ROWS).predict(ROWS).texts
        for prompt in ("is there effusion and", "<image> is there effusion and", "heart", "heart <image>")
    }
    assert texts["is there effusion and"] == texts["<image> is there effusion and"]
    assert len(set(texts.values())) == 3
    with pytest.raises(MedwardError, match="names the image 2 times"):
        models.wrap(llava_writer(), spec=spec_of("LLaVA", prompt="<image> heart <image>"), sample=ROWS).predict(ROWS)


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_becomes_a_bundle_that_writes_alike(name, tmp_path):
    writer = MAKERS[name]()
    writer.network.generation_config.max_new_tokens = LENGTH
    writer.network.save_pretrained(tmp_path / "model")
    writer.tokenizer.save_pretrained(tmp_path / "model")
    task = {} if name != "LLaVA" else {"task": spec_of(name).task}
    classes = {"classes": FINDINGS} if not task else {}
    made = protect(
        tmp_path / "model",
        Split(report_images(300, 1)),
        report_policy(screen={"action": "allow"}),
        tmp_path / "bundle",
        low=0.0,
        high=1.0,
        layout="NCHW",
        **task,
        **classes,
    )
    assert made.card.spec.task == spec_of(name).task
    assert made.card.model == REPORT_ARCHIVE
    loaded = load_bundle(tmp_path / "bundle")
    guard, own = loaded.guard(ephemeral=True), models.wrap(writer, spec=spec_of(name), sample=ROWS).predict(ROWS)
    answer = guard.answer(Query(principal=("clinic",), inputs=ROWS))
    assert answer.texts == own.texts
    stream = guard.stream(Query(principal=("clinic",), inputs=ROWS[:1]))
    assert "".join(stream) == own.texts[0]
    archive = tmp_path / "bundle" / REPORT_ARCHIVE
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(zipfile.ZipFile(archive).namelist())
    assert not any("tmp" in each for each in json.loads((tmp_path / "bundle" / "card.json").read_text())["options"])


def test_equal_models_are_equal_archives(tmp_path):
    for each in ("a", "b"):
        (tmp_path / each).mkdir()
        wrapped("LLaVA").export(tmp_path / each)
    assert (tmp_path / "a" / REPORT_ARCHIVE).read_bytes() == (tmp_path / "b" / REPORT_ARCHIVE).read_bytes()


@pytest.mark.parametrize("name", ["../weights.safetensors", "code.py", "sub/config.json", "pytorch_model.bin"])
def test_an_archive_with_anything_else_in_it_is_refused(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"{}")
    with pytest.raises(MedwardError, match="is no part of a model"):
        models.load_model(REPORT_ARCHIVE, buffer.getvalue(), spec=spec_of("LLaVA"), options={}, allow_code=False)
    with pytest.raises(MedwardError, match="cannot be read"):
        models.load_model(REPORT_ARCHIVE, b"no zip", spec=spec_of("LLaVA"), options={}, allow_code=False)


def test_a_stream_of_a_network_is_the_whole_answer():
    model = wrapped("encoder and decoder", seed=1)
    guard = report_guard(model, report_policy(screen={"action": "allow"}))
    for at in range(4):
        query = Query(principal=("clinic",), inputs=ROWS[[at]])
        with guard.stream(query) as stream:
            text = "".join(stream)
        assert stream.answer.texts == guard.answer(query).texts == (text,)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vocabulary": None}, f"in tokens of {VOCABULARY} kinds"),
        ({"vocabulary": 9}, f"vocabulary={VOCABULARY}"),
        ({"prompt": "describe"}, "takes none; leave it out"),
    ],
)
def test_a_task_that_is_not_the_networks_is_refused(settings, says):
    with pytest.raises(MedwardError, match=says):
        models.wrap(encoder_decoder(), spec=spec_of("encoder and decoder", **settings), sample=ROWS)


def test_networks_and_folders_that_write_nothing_here_are_refused(tmp_path):
    with pytest.raises(MedwardError, match="PretrainedWriter"):
        models.wrap(encoder_decoder().network, spec=spec_of("encoder and decoder"), sample=ROWS)
    decoder = encoder_decoder().network.decoder
    with pytest.raises(MedwardError, match="no vision encoder with a text decoder"):
        PretrainedWriter(network=decoder, tokenizer=word_tokenizer())
    writer = encoder_decoder()
    writer.network.save_pretrained(tmp_path / "a")
    with pytest.raises(MedwardError, match=r"has no tokenizer\.json"):
        open_source(tmp_path / "a")
    writer.tokenizer.save_pretrained(tmp_path / "a")
    assert isinstance(open_source(tmp_path / "a").model, PretrainedWriter)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps({**config, "attn_implementation": "someone/kernel"}))
    with pytest.raises(MedwardError, match="code that transformers would load from a hub"):
        open_source(tmp_path / "a")
    with pytest.raises(MedwardError, match="features"):
        models.wrap(writer, spec=spec_of("encoder and decoder"), sample=ROWS, features="encoder")
    assert replace(spec_of("LLaVA").task, prompt="").prompt == ""
