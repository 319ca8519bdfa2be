"""Where a serving host keeps its accounts, named by one text: a file on this host, or a Redis that replicas share."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from medward.guard.accounts.stores import SQLiteStore, Store
from medward.guard.errors import MedwardError

USER = r"(?:[^/?#@]*@)?"
FILE = r"ssl_(?:ca_certs|certfile|keyfile)=[^&#]+"
ADDRESSES = {
    "redis://:password@host:6379/0": rf"rediss?://{USER}(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?(?:/\d*)?(?:\?{FILE}(?:&{FILE})*)?",
    "unix://:password@/path": rf"unix://{USER}/[^?#]+",
}


def is_shared(where: str | Path | None) -> bool:
    """Whether `where`, as `open_store` has it, is one that replicas share."""
    return isinstance(where, str) and ":" in where


def open_store(where: str | Path, *, existing: bool = False) -> Store:
    """The store at `where`: address of a Redis (``redis://``, ``rediss://`` with TLS, ``unix://``), else a SQLite file.

    `existing` refuses a file that is not there instead of making it. No message shows a password.
    Raises `MedwardError`, and `UnavailableError` when the store cannot be reached.
    """
    if isinstance(where, str) and is_shared(where):
        return _open_redis(where)
    if existing and not Path(where).exists():
        raise MedwardError(f"{where}: there is no such file; give the server's --state folder, or its --store")
    return SQLiteStore(where)


def _open_redis(address: str) -> Store:
    if not any(re.fullmatch(form, address, re.ASCII) for form in ADDRESSES.values()):
        raise MedwardError(
            f"store: give a file's name without a colon, or {' or '.join(ADDRESSES)}; "
            "rediss:// is with TLS, and takes ssl_ca_certs, ssl_certfile and ssl_keyfile after a '?'; "
            "in a password write / ? # @ as %2F %3F %23 %40"
        )
    if find_spec("redis") is None:
        raise MedwardError("store: Redis needs the package redis: pip install 'medward[redis]'")
    from medward.integrations.redis_store import RedisStore

    return RedisStore(address)
