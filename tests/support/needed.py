"""What tests need of the machine that no package index has: programs of Debian packages."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(program: str, packages: str) -> NoReturn:
    """Skip the test for want of `program`, or fail it in CI, where its `packages` are installed."""
    reason = f"needs {program} (Debian: apt-get install {packages})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
