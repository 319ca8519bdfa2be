"""The store that a text names: a file, a Redis, or one sentence that shows no password."""

from __future__ import annotations

import sys

import pytest
from support.redis_server import running

from medward.guard.accounts.stores import SQLiteStore
from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.redis_store import RedisStore
from medward.integrations.serving.store import open_store

SECRET = "hunter2"


def test_a_name_is_a_file_and_a_path_may_hold_a_colon(tmp_path):
    (tmp_path / "12:30").mkdir()
    for where in (str(tmp_path / "accounts.db"), tmp_path / "12:30" / "accounts.db"):
        store = open_store(where)
        assert isinstance(store, SQLiteStore)
        store.close()
        open_store(where, existing=True).close()
    with pytest.raises(MedwardError, match="there is no such file"):
        open_store(str(tmp_path / "other.db"), existing=True)
    assert not (tmp_path / "other.db").exists()


def test_an_address_is_a_redis_and_its_password_opens_it(tmp_path):
    with running(tmp_path) as server:
        with server.client() as client:
            client.config_set("requirepass", SECRET)
        store = open_store(f"unix://:{SECRET}@{server.socket}")
        assert isinstance(store, RedisStore)
        store.transact("a", lambda state: (1, None))
        assert store.get("a") == 1
        store.close()
        with pytest.raises(UnavailableError) as caught:
            open_store(f"unix://:{SECRET}x@{server.socket}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"user:{SECRET}@host:6379", "without a colon"),
        ("localhost:6379", "without a colon"),
        (f"redis:/:{SECRET}@host", "without a colon"),
        (f"http://:{SECRET}@host", "without a colon"),
        (f"redis://:a/{SECRET}@host:6379/0", "%2F"),
        (f"redis://:{SECRET}#@host", "%23"),
        (f"redis://:{SECRET}@host/chest", "redis://:password@host:6379/0"),
        (f"redis://:{SECRET}@host:6379000/0", "not a Redis address"),
        (f"unix://:{SECRET}@redis.sock", "unix://:password@/path"),
        (f"unix:///redis.sock?password={SECRET}", "redis://:password@host"),
        (f"redis://:{SECRET}@127.0.0.1:1/0?timeouts=1", "after a '?'"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_password(address, says):
    with pytest.raises(MedwardError) as caught:
        open_store(address)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


def test_without_the_redis_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MedwardError, match=r"pip install 'medward\[redis\]'"):
        open_store("redis://127.0.0.1:1/0")
