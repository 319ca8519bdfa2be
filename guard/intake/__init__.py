"""One decoder for image files, PNG, JPEG and DICOM: the same for data that are read and for files that are uploaded."""
