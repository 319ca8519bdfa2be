"""A copy of what lies elsewhere, where fetching it hangs or breaks in a way nobody thought of."""

from __future__ import annotations

import asyncio
import threading

import pytest

from medward.guard.errors import UnavailableError
from medward.integrations.serving import fetched_copy
from medward.integrations.serving.fetched_copy import FetchedCopy


def test_nobody_waits_longer_than_the_patience_for_a_fetch_that_hangs(monkeypatch):
    monkeypatch.setattr(fetched_copy, "FETCH_PATIENCE", 0.1)
    go = threading.Event()
    copy = FetchedCopy(lambda: go.wait(30), name="it", fresh=60)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="it: they did not come in time"):
            asyncio.run(copy.current())
    go.set()
    monkeypatch.setattr(fetched_copy, "FETCH_PATIENCE", 20)
    assert asyncio.run(copy.current()) is True


def test_a_fetch_that_breaks_is_an_outage_whose_words_stay_in_the_log(caplog):
    copy = FetchedCopy(lambda: {}["a secret"], name="it", fresh=60)
    with pytest.raises(UnavailableError, match=r"^it: KeyError$"):
        asyncio.run(copy.current())
    assert copy.failure == "KeyError"


def test_a_copy_ages_from_when_its_fetch_began():
    now = [0.0]

    def fetch():
        now[0] += 10.0  # what it took
        return now[0]

    copy = FetchedCopy(fetch, name="it", fresh=15, clock=lambda: now[0])
    assert asyncio.run(copy.current()) == asyncio.run(copy.current()) == 10.0
    now[0] += 6.0
    assert asyncio.run(copy.current()) == 26.0
