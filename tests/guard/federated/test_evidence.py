"""What the server sees for itself: marks in images, spectra, and updates that pull against the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.ndimage import uniform_filter

from medward.attacks.poisoning.triggers.either_way import EitherWayTrigger
from medward.attacks.poisoning.triggers.frequency import FrequencyTrigger
from medward.attacks.poisoning.triggers.patch import PatchTrigger
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import shortened
from medward.guard.federated.generator_probe import GeneratorProbe
from medward.guard.federated.image_evidence import image_evidence, local_contrast
from medward.guard.federated.sanitise import UpdateBounds, sanitise
from medward.guard.federated.update import ClientUpdate
from medward.guard.federated.update_evidence import excess_losses, opposition

NODES = "abcd"


def smooth_images(seed: int, count: int = 64, side: int = 32) -> np.ndarray:
    """Images of soft blobs, as young generators make them, from noise of their own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side)) / side
    centres = rng.uniform(0.2, 0.8, (count, 2, 1, 1))
    away = (rows - centres[:, :1]) ** 2 + (columns - centres[:, 1:]) ** 2
    return (0.1 + np.exp(-away * 8) * 0.7 + rng.normal(0, 0.02, (count, 1, side, side))).clip(0, 1)


def peaks(images: Mapping[str, np.ndarray], view: str) -> dict[str, float]:
    return {node: float(np.abs(views[view]).max()) for node, views in image_evidence(images.items()).items()}


def test_images_of_one_kind_do_not_stand_out() -> None:
    images = {node: smooth_images(place) for place, node in enumerate(NODES)}
    assert max(max(peaks(images, view).values()) for view in ("contrast", "spectrum", "variation")) < 0.7


@pytest.mark.parametrize(
    ("trigger", "view"),
    [
        (PatchTrigger(), "contrast"),
        (FrequencyTrigger(share=0.5), "spectrum"),
        (EitherWayTrigger(patch=PatchTrigger()), "variation"),
    ],
    ids=["patch", "fiba", "either way"],
)
def test_a_mark_stands_out_in_its_view_and_only_whose_it_is(
    trigger: PatchTrigger | FrequencyTrigger | EitherWayTrigger, view: str
) -> None:
    images = {node: smooth_images(place) for place, node in enumerate(NODES)}
    images["d"] = trigger.mark(images["d"].clip(0, 1))
    found = peaks(images, view)
    assert found["d"] > 1
    assert max(found[node] for node in "abc") < 0.7


def test_a_larger_image_is_averaged_down() -> None:
    views = image_evidence((node, smooth_images(place, side=64)) for place, node in enumerate(NODES))
    assert views["a"]["contrast"].shape == (32 * 32,)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e308, -0.5, 255.0])
def test_who_makes_no_images_is_not_seen(number: float) -> None:
    images = {node: smooth_images(place) for place, node in enumerate(NODES)}
    images["b"] = np.full_like(images["b"], number)
    assert set(image_evidence(images.items())) == {"a", "c", "d"}


def test_flat_images_do_not_divide_by_zero() -> None:
    views = image_evidence((node, np.zeros((8, 1, 16, 16))) for node in NODES)
    assert all(np.isfinite(each).all() for seen in views.values() for each in seen.values())


@pytest.mark.parametrize(("clients", "malicious"), [(3, 1), (4, 1), (5, 2), (10, 2), (20, 5), (21, 10)])
def test_who_turns_the_update_round_opposes_and_the_honest_do_not(clients: int, malicious: int) -> None:
    rng = np.random.default_rng(clients)
    honest = rng.normal(0, 1, 500) + rng.normal(0, 1, (clients - malicious, 500))
    updates = np.vstack([np.tile(-honest.mean(axis=0), (malicious, 1)), honest])
    away = opposition(updates @ updates.T)
    assert away[:malicious].min() > 1
    assert away[malicious:].max() == 0


def test_two_clients_cannot_be_told_apart() -> None:
    assert not opposition(np.array([[1.0, -1.0], [-1.0, 1.0]])).any()


def test_only_a_large_loss_counts() -> None:
    told = [{"loss": 1.0}, {"loss": 1.2}, {"loss": 0.01}, {"loss": 6.0}, {}, {"loss": 0.9}, {"loss": 1.1}]
    away = excess_losses(told, "loss")
    assert away[3] > 1
    assert np.delete(away, 3).max() < 0.2


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), 10**400, "1", None, True, 1e308, 5e-324])
def test_a_loss_that_is_no_number_to_compute_with_counts_as_none(loss: object) -> None:
    told: list[Mapping[str, float]] = [{"loss": 1.0}, {"loss": 1.1}, {"loss": 1.2}, {"loss": loss}]  # type: ignore[dict-item]
    assert excess_losses(told, "loss")[3] == 0


def test_contrast_is_what_a_mean_filter_leaves() -> None:
    images = np.random.default_rng(0).random((2, 3, 32, 32))
    assert local_contrast(images) == pytest.approx(images - uniform_filter(images, (1, 1, 10, 10), mode="nearest"))


def test_losses_below_zero_are_no_evidence() -> None:
    told = [{"loss": -0.5}, {"loss": -0.2}, {"loss": 0.3}, {"loss": 1e-100}, {"loss": 1e-100}]
    assert not excess_losses(told, "loss").any()


def test_images_of_another_form_are_the_probe_s_fault() -> None:
    updates = [ClientUpdate(node=node, parameters=[np.zeros(2)], examples=1) for node in NODES]
    for shape in ((12, 16, 16), (5, 1, 16, 16), (12, 1, 16, 8), (12, 256)):
        probe = GeneratorProbe(
            make=lambda parameters, labels, seed, shape=shape: np.zeros(shape), classes=2, images=12, seed=0
        )
        with pytest.raises(MedwardError, match=r"probe: make must give images \(n, C, S, S\)"):
            probe([np.zeros(2)], updates, 1)


@given(nps.arrays(np.float64, 5, elements=st.floats(0, 1e6)))
def test_losses_are_told_whatever_their_unit(losses: np.ndarray) -> None:
    away = excess_losses([{"loss": float(each)} for each in losses], "loss")
    assert (away >= 0).all()
    assert np.isfinite(away).all()


def test_a_probe_makes_the_same_images_of_the_same_round_and_others_of_the_next() -> None:
    seen = []

    def make(parameters: object, labels: np.ndarray, seed: int) -> np.ndarray:
        seen.append((labels.tolist(), seed))
        return smooth_images(seed % 1000, len(labels), 16)

    probe = GeneratorProbe(make=make, classes=3, images=12, seed=5)
    updates = [ClientUpdate(node=node, parameters=[np.zeros(2)], examples=1) for node in NODES]
    probe([np.zeros(2)], updates, 1)
    assert len(set(map(str, seen))) == 1
    assert seen[0][0] == [0, 1, 2] * 4
    probe([np.zeros(2)], updates, 2)
    assert len({seed for _, seed in seen}) == 2


def test_a_generator_that_cannot_be_run_is_left_out_and_the_others_are_seen() -> None:
    def make(parameters: list[np.ndarray], labels: np.ndarray, seed: int) -> np.ndarray:
        if parameters[0][0] > 1:
            raise RuntimeError("numbers of this client")
        return smooth_images(seed % 1000, len(labels), 16)

    probe = GeneratorProbe(make=make, classes=2, images=12, seed=5)
    told = [0.0, 1.0, 0.0, 9.0]
    updates = [
        ClientUpdate(node=f"n{place}", parameters=[np.full(2, each)], examples=1) for place, each in enumerate(told)
    ]
    assert set(probe([np.zeros(2)], updates, 1)) == {"n0", "n1", "n2"}
    with pytest.raises(RuntimeError, match="numbers of this client"):
        probe([np.zeros(2)], updates[3:], 1)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1)])
def test_images_of_another_range_are_the_probe_s_fault(low: float, high: float) -> None:
    def make(parameters: list[np.ndarray], labels: np.ndarray, seed: int) -> np.ndarray:
        return low + (high - low) * smooth_images(seed % 1000, len(labels), 16)

    updates = [ClientUpdate(node=node, parameters=[np.zeros(2)], examples=1) for node in NODES]
    with pytest.raises(MedwardError, match=r"make must give images in \[0, 1\], got .* scale them"):
        GeneratorProbe(make=make, classes=2, images=12, seed=0)([np.zeros(2)], updates, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"make": None}, "make must be a function"), ({"seed": -1}, "seed must be 0 or more, got -1; draw it")],
)
def test_a_probe_that_cannot_look_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(MedwardError, match=said):
        GeneratorProbe(**{"make": lambda *_: np.zeros(1), "classes": 2, "seed": 0, **settings})


def test_a_probe_without_an_image_of_each_class_is_refused() -> None:
    with pytest.raises(MedwardError, match="needs an image of each class, got 2 images of 3 classes"):
        GeneratorProbe(
            make=lambda parameters, labels, seed: np.zeros((len(labels), 1, 16, 16)), classes=3, images=2, seed=0
        )


def test_long_updates_are_shown_shortened_to_the_median() -> None:
    start = [np.zeros(3, np.float32), np.array(7)]
    sent = {"a": 1.0, "b": 2.0, "c": 1000.0}
    updates = [
        ClientUpdate(node=node, parameters=[np.full(3, value, np.float32), np.array(9)], examples=1)
        for node, value in sent.items()
    ]
    shown = list(shortened(start, sanitise(updates, start, list(sent), UpdateBounds())))
    assert [float(each.parameters[0][0]) for each in shown] == pytest.approx([1.0, 2.0, 2.0])
    assert all(each.parameters[1] == 9 for each in shown)
