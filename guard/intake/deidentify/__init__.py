"""De-identification of image files: burned-in text is found, filled and read again; headers keep none."""
