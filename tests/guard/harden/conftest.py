"""Rows and a network that is easy to fool, made once."""

from __future__ import annotations

import pytest
import torch
from support.faint import fitted, images, net


@pytest.fixture(scope="session")
def data():
    return images(160, 0), images(80, 1)


@pytest.fixture(scope="session")
def victim(data):
    torch.manual_seed(0)
    return fitted(net(), data[0])
