"""What a file says of its patient is known, and one that cannot be read is refused and not taken for nobody's."""

from __future__ import annotations

import numpy as np
import pytest
from support.dicom_files import dicom_bytes, dicom_file, dicom_header

from medward.guard.errors import MedwardError
from medward.guard.intake.dicom import DEFLATED
from medward.guard.intake.known_patients import known_patients

PIXELS = np.zeros((4, 4), np.uint8)


def test_a_dicom_file_names_its_patient_and_another_file_names_nobody():
    known, nobody = known_patients([dicom_file(PIXELS, PatientName="Vlorp^Xyqra"), b"no DICOM"])
    assert known is not None
    assert any("Vlorp" in value for _, value in known.values)
    assert nobody is None


def test_a_file_that_cannot_be_read_is_refused_with_its_place():
    header = dicom_header(PIXELS, PatientName="Vlorp^Xyqra")
    header.file_meta.TransferSyntaxUID = DEFLATED
    with pytest.raises(MedwardError, match="image 1: is deflated as a whole") as refused:
        known_patients([b"no DICOM", dicom_bytes(header)])
    assert "Vlorp" not in str(refused.value)
