"""De-identification of image files: burned-in text is found, filled and looked for again; headers keep no identifier."""
