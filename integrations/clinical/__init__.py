"""Answers and records in the forms of hospitals: FHIR R4, DICOM structured reports, DICOMweb."""
