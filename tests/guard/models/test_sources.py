"""Folders that say more than weights: Hugging Face models with their processor, MONAI bundles, TorchScript files."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from PIL import Image
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.intake.decode import decode_batch
from medward.guard.models.sources import open_source
from medward.guard.policy import Policy
from medward.guard.preparation import Preparation

SIDE, MEAN, STD = 16, [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
POLICY = Policy(on_error="flag")


def pixels(channels: int, n: int = 260, seed: int = 0) -> np.ndarray:
    """Noisy uint8 images ``(n, H, W, C)``, or without the last axis."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, channels))
    fine = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype(np.uint8)
    return fine if channels > 1 else fine[..., 0]


def vit(head: type = ViTForImageClassification, **config: Any) -> nn.Module:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes = {"image_size": SIDE, "patch_size": 8, "num_channels": 3, "num_labels": 2}
    return head(ViTConfig(**small, **sizes, **config)).eval()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    net = vit(id2label={0: "well", 1: "ill"}, label2id={"well": 0, "ill": 1})
    with torch.no_grad():
        net.classifier.weight *= 30
    net.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=MEAN, image_std=STD).save_pretrained(folder)
    return folder


def test_a_hugging_face_folder_is_served_as_its_own_pipeline_answers(hub, tmp_path):
    images = pixels(3)
    bundle = protect(str(hub), Split(images), POLICY, tmp_path / "b")
    spec = bundle.card.spec
    assert (spec.low, spec.high, spec.classes, spec.output) == (0, 1, ("well", "ill"), "logits")
    assert spec.prepare == Preparation(resize=(SIDE, SIDE), mean=tuple(MEAN), std=tuple(STD))
    shown = [Image.fromarray(each) for each in images[:30]]
    given = ViTImageProcessorPil.from_pretrained(hub)(images=shown, return_tensors="pt")
    with torch.no_grad():
        own = ViTForImageClassification.from_pretrained(hub)(**given).logits.numpy()
    files = []
    for each in shown:
        each.save(file := io.BytesIO(), "PNG")
        files.append(file.getvalue())
    (uploaded, _), sent = decode_batch(files, spec, pixels=10**6), np.moveaxis(images[:30], -1, 1) / 255
    for rows in (uploaded, spec.check(sent)):
        np.testing.assert_allclose(bundle.model.predict(rows).scores, own, rtol=0, atol=1e-5)
    assert (open_source(str(hub)).low, open_source(str(hub)).high) == (0, 1)
    network, reason = white_box(tmp_path / "b" / "model.onnx", bundle.model.predict, uploaded, bundle.card.options)
    assert network is not None, reason


def test_how_dicom_is_windowed_is_said_beside_what_the_processor_says(hub):
    found = open_source(str(hub), prepare=Preparation(window=(40.0, 400.0), frame=2)).prepare
    assert found == replace(open_source(str(hub)).prepare, window=(40.0, 400.0), frame=2)
    with pytest.raises(MedwardError, match=r"^prepare: resized to 8 x 8 .* was said, and the model's processor says"):
        open_source(str(hub), prepare=Preparation(window="file", resize=(8, 8)))


@pytest.mark.parametrize("within", [False, True])
def test_a_configuration_that_names_code_of_a_hub_is_refused(within, hub, tmp_path):
    shutil.copytree(hub, tmp_path / "hub")
    config, kernel = json.loads((hub / "config.json").read_text()), {"_attn_implementation": "kernels-community/any"}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config | ({"text_config": kernel} if within else kernel)))
    with pytest.raises(MedwardError, match="_attn_implementation = 'kernels-community/any', code that"):
        open_source(tmp_path / "hub")
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config | {"_attn_implementation": "eager"}))
    assert open_source(tmp_path / "hub").classes is None


def test_a_model_in_memory_takes_its_processor_by_folder_or_as_it_is(hub):
    net, made = vit(), ViTImageProcessorPil.from_pretrained(hub)
    assert open_source(net, hub) == open_source(net, made) == open_source(net, str(hub / "preprocessor_config.json"))
    assert open_source(net).prepare == Preparation()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": {"shortest_edge": SIDE}}, "keeps each file's aspect ratio"),
        ({"do_pad": True}, "do_pad = True, which cannot be expressed"),
        ({"resample": 5}, "resample = 5"),
        ({"resample": None}, "resample = None, which cannot be expressed"),
        ({"image_mean": None}, "image_mean = None, which cannot be expressed"),
        ({"image_std": ["a", 1, 1]}, r"image_std = \('a', 1, 1\), which cannot be expressed"),
        ({"rescale_factor": None}, "rescale_factor = None, which cannot be expressed"),
        ({"size": None}, "size = None, which cannot be expressed"),
        ({"do_center_crop": True}, "crop_size = None, which cannot be expressed"),
        ({"do_center_crop": True, "crop_size": {"height": 300, "width": 20}}, "it would pad"),
        ({"image_processor_type": "LevitImageProcessor"}, r"a way of its own \(resize\)"),
        ({"image_processor_type": "Unheard"}, "transformers cannot read it"),
    ],
)
def test_what_a_processor_does_beyond_a_preparation_is_refused_by_name(settings, words, tmp_path):
    said = {"image_processor_type": "ViTImageProcessor", **settings}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(MedwardError, match=words):
        open_source(nn.Identity(), tmp_path)


def test_scaling_and_cropping_are_read(tmp_path):
    said = {"do_rescale": False, "do_center_crop": True, "crop_size": 224, "size": 256, "do_normalize": False}
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", **said})
    )
    found = open_source(nn.Identity(), tmp_path)
    assert (found.low, found.high) == (0, 255)
    assert found.prepare == Preparation(resize=(256, 256), crop=(224, 224))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "image_mean": 0.5, "image_std": 0.25})
    )
    assert (open_source(nn.Identity(), tmp_path).prepare.mean, open_source(nn.Identity(), tmp_path).prepare.std) == (
        (0.5,),
        (0.25,),
    )


def test_what_is_said_otherwise_than_beside_the_model_is_refused(hub, tmp_path):
    with pytest.raises(MedwardError, match="high: 255 was said, and what is beside the model says 1"):
        open_source(nn.Identity(), hub, high=255)
    with pytest.raises(MedwardError, match="was said, and the model's processor says"):
        open_source(nn.Identity(), hub, prepare=Preparation(mean=(0.5,), std=(0.5,)))
    with pytest.raises(MedwardError, match="prepared to 16 x 16"):
        protect(
            vit(),
            Split(np.moveaxis(pixels(3)[:, :, :8], -1, 1) / np.float32(255)),
            POLICY,
            tmp_path / "b",
            processor=hub,
        )
    with pytest.raises(MedwardError, match=r"holds no preprocessor_config\.json"):
        open_source(nn.Identity(), tmp_path)


def test_a_folder_without_a_trained_head_is_refused(tmp_path):
    vit(ViTModel).save_pretrained(tmp_path)
    with pytest.raises(MedwardError, match=r"no weights for classifier\.bias \(2 missing\)"):
        open_source(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(MedwardError, match="expected a path"):
        protect(str(tmp_path), Split(pixels(3)), POLICY, tmp_path / "b", low=0, high=1)


DENSENET = {
    "_target_": "DenseNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "init_features": 4,
    "growth_rate": 4,
    "block_config": "@blocks",
}


def monai_folder(folder: Path, **network: Any) -> nn.Module:
    """A bundle as MONAI's model zoo has them, of a small DenseNet."""
    torch.manual_seed(0)
    net = DenseNet(2, 1, 2, init_features=4, growth_rate=4, block_config=(1, 1))
    with torch.no_grad():
        net.class_layers.out.weight *= 30
    for name in ("configs", "models"):
        (folder / name).mkdir()
    torch.save(net.state_dict(), folder / "models" / "model.pt")
    config = {"blocks": [1, 1], "network_def": {**DENSENET, **network}, "dataset": {"_target_": "$unused()"}}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    image = {"num_channels": 1, "spatial_shape": [32, 32], "value_range": [0, 1], "dtype": "float32"}
    answer = {"num_channels": 2, "channel_def": {"0": "A", "1": "B"}}
    said = {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(said))
    return net.eval()


def test_a_monai_bundle_is_served_as_its_network_answers(tmp_path):
    net = monai_folder(tmp_path)
    images = pixels(1)
    big = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
    bundle = protect(tmp_path, Split(big), POLICY, tmp_path / "out", output="logits")
    spec = bundle.card.spec
    assert (spec.low, spec.high, spec.classes) == (0, 1, ("A", "B"))
    rows = spec.check(big[:20, None] / 255)
    with torch.no_grad():
        own = net(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(bundle.model.predict(rows).scores, own, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"out_channels": "$__import__('os').getpid()"}, r"runs code \(\$__import__"),
        ({"block_config": "@missing"}, r"runs code \(@missing"),
        ({"act": {"_target_": "os.system", "command": "true"}}, r"runs code \(_target_ os\.system"),
        ({"_target_": "monai.apps.download_url"}, r"runs code \(_target_ monai\.apps"),
        ({"_target_": "pdb"}, r"runs code \(_target_ pdb"),
        ({"_target_": "monai.networks.nets.densenet.torch.load"}, r"runs code \(_target_ monai\.networks"),
        ({"_target_": "monai.networks.utils.convert_to_torchscript"}, r"runs code \(_target_ monai\.networks"),
        ({"_mode_": "debug"}, r"runs code \(_mode_ debug"),
        ({"norm": "%other.json::norm"}, r"runs code \(%other"),
        ({"growth_rate": 8}, "are no weights of the network_def"),
    ],
)
def test_a_monai_configuration_that_may_run_code_needs_a_word(network, words, tmp_path):
    monai_folder(tmp_path, **network)
    with pytest.raises(MedwardError, match=words):
        open_source(tmp_path)


@pytest.mark.parametrize("hidden", ["blocks::depth", "blocks#depth", "network_def::growth_rate"])
def test_a_key_that_looks_like_a_reference_hides_no_code(hidden, tmp_path):
    """MONAI reads the key "blocks::depth" where another reader of "@blocks::depth" follows two keys."""
    net, ran = monai_folder(tmp_path, growth_rate="@blocks::depth", block_config=[1, 1]), tmp_path / "ran"
    file = tmp_path / "configs" / "inference.json"
    code = {"_target_": "os.system", "command": f"touch {ran}"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "blocks": {"depth": 4}, hidden: code}))
    found = open_source(tmp_path).model
    assert not ran.exists()
    rows = torch.rand(2, 1, 32, 32)
    assert torch.equal(found(rows), net(rows)), "what was looked at is what is built"


@pytest.mark.parametrize(
    "said",
    [[], {"inputs": [3]}, {"inputs": {"image": 3}}, {"inputs": {"image": {"value_range": ["a", "b"]}}}],
)
def test_metadata_of_another_form_is_one_sentence(said, tmp_path):
    monai_folder(tmp_path)
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": said}))
    with pytest.raises(MedwardError, match=r"metadata\.json: its network_data_format is not as MONAI has it"):
        open_source(tmp_path)


def test_metadata_of_several_inputs_say_nothing_of_the_network_s_own(tmp_path):
    monai_folder(tmp_path)
    inputs = {"click": {"value_range": [0, 1]}, "image": {"value_range": [0, 255]}}
    answer = {"pred": {"channel_def": {"0": None, "1": "B"}}}
    (tmp_path / "configs" / "metadata.json").write_text(
        json.dumps({"network_data_format": {"inputs": inputs, "outputs": answer}})
    )
    found = open_source(tmp_path)
    assert (found.low, found.high, found.classes) == (None, None, None)


def test_a_monai_configuration_that_refers_to_itself_is_refused(tmp_path):
    monai_folder(tmp_path, block_config="@network_def::act", act="@network_def::block_config")
    with pytest.raises(MedwardError, match="network_def cannot be built: RecursionError"):
        open_source(tmp_path)


def test_code_of_a_monai_configuration_runs_where_that_is_said(tmp_path):
    monai_folder(tmp_path, growth_rate="$2 + 2")
    with pytest.raises(MedwardError, match="--allow-code"):
        open_source(tmp_path)
    assert isinstance(open_source(tmp_path, allow_code=True).model, DenseNet)


def test_a_torchscript_file_is_read_as_it_is(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Linear(3, 2)).save(str(tmp_path / "net.pt"))
        assert isinstance(open_source(tmp_path / "net.pt").model, torch.jit.ScriptModule)
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "state.pt")
    assert open_source(tmp_path / "state.pt").model == tmp_path / "state.pt"  # refused with the line to write
