"""DICOM instances of one study as rows: each decoded by itself, so that one that cannot be read spoils no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medward.guard.errors import MedwardError
from medward.guard.intake.instance import DicomInstance, dicom_instance
from medward.guard.spec import ModelSpec
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.service import Received

CANNOT_UNDERSTAND = 0xC000
"""Failure reason of an instance whose pixels the model cannot be given; DICOM PS3.18, annex I."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedInstance:
    """An instance that was not answered, and why; `place` is its number in the request, its UIDs are "" if unknown."""

    place: int
    sop_class: str
    sop_instance: str
    failure: str
    reason: int = CANNOT_UNDERSTAND


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRead:
    """What was read of the files of one study: the rows, the instance that each is, and those that are none."""

    received: Received
    instances: tuple[DicomInstance, ...]
    failed: tuple[FailedInstance, ...]


class NothingRead(Exception):
    """Not one of the instances could be read, so nothing is asked."""

    def __init__(self, failed: Sequence[FailedInstance]) -> None:
        super().__init__("no instance could be read")
        self.failed = tuple(failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReader:
    """Reads files as rows of the model of `spec` within `limits`; `resize` is that of `create_app`.

    `known` says that identifiers in the headers are to be kept out of texts.
    """

    spec: ModelSpec
    limits: Limits
    resize: bool
    known: bool

    def read(self, files: Sequence[bytes], *, retrieved: bool = False) -> StudyRead:
        """The rows of `files`. Raises `NothingRead` where there are none, `MedwardError` for two studies."""
        import numpy as np

        from medward.guard.intake.decode import decode_batch, file_pictures
        from medward.guard.intake.known_patients import known_patients

        rows, instances, kept, failed = [], [], [], []
        for place, file in enumerate(files):
            instance = None
            try:
                instance = dicom_instance(file)
                if instance is None:
                    raise MedwardError("is no DICOM file that says its study, its class and its instance")
                rows.append(decode_batch([file], self.spec, pixels=self.limits.pixels, resize=self.resize)[0][0])
            except MedwardError as error:
                failed.append(_failure(place, instance, error))
            else:
                instances.append(instance)
                kept.append(file)
        if not rows:
            raise NothingRead(failed)
        received = Received(
            np.stack(rows),
            frozenset(each.study for each in instances),
            file_pictures(kept, self.spec, pixels=self.limits.pixels, resize=self.resize),
            known_patients(kept) if self.known else (),
            tuple(instances),
            retrieved,
        )
        received.refuse_several_studies()  # before anything is asked
        return StudyRead(received=received, instances=tuple(instances), failed=tuple(failed))

    def reading(
        self, files: Sequence[bytes], keep: Callable[[StudyRead], None], *, retrieved: bool = False
    ) -> Callable[[], Received]:
        """What reads `files` in a worker thread and hands on to `keep` what it read."""

        def read() -> Received:
            found = self.read(files, retrieved=retrieved)
            keep(found)
            return found.received

        return read


def _failure(place: int, instance: DicomInstance | None, error: MedwardError) -> FailedInstance:
    sentence = str(error).removeprefix("image 0: ")
    if instance is None:
        return FailedInstance(place=place, sop_class="", sop_instance="", failure=sentence)
    return FailedInstance(
        place=place, sop_class=instance.sop_class, sop_instance=instance.sop_instance, failure=sentence
    )
