"""The one exception a user is meant to read."""


class MedwardError(ValueError):
    """Bad input, said in one sentence: what, its value, the bound, the remedy."""


class IntegrityError(MedwardError):
    """A stored file is not what it was when it was sealed; the message names the first broken part."""


class ModelError(MedwardError):
    """The model itself failed on an input, or broke its specification; no fault of the client's."""


class UnavailableError(RuntimeError):
    """A part the guard depends on (store, audit log) did not answer; the policy's ``on_error`` decides."""
