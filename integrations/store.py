"""Where a serving host keeps its accounts, named by one text: a file on this host, or a Redis that replicas share."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from guard.errors import MedwardError
from guard.protocols import Store
from guard.stores import SQLiteStore

USER, REST = r"(?:[^/?#@]*@)?", r"(?:\?[^#]*)?"
ADDRESSES = {
    "redis://:password@host:6379/0": rf"rediss?://{USER}(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?(?:/\d*)?{REST}",
    "unix://:password@/path": rf"unix://{USER}/[^?#]+{REST}",
}
SALT = "//salt"  # no principal has an empty level, so none is mistaken for this key


def open_store(where: str | Path, *, existing: bool = False) -> Store:
    """The store at `where`: address of a Redis (``redis://``, ``rediss://`` with TLS, ``unix://``), else a SQLite file.

    `existing` refuses a file that is not there instead of making it. No message shows a password.
    Raises `MedwardError`, and `UnavailableError` when the store cannot be reached.
    """
    if isinstance(where, str) and ":" in where:
        return _open_redis(where)
    if existing and not Path(where).exists():
        raise MedwardError(f"{where}: there is no such file; give the server's --state folder, or its --store")
    return SQLiteStore(where)


def shared_salt(store: Store, own: bytes) -> bytes:
    """The one salt of all replicas of `store`: that of the first to ask, be it `own`.

    Only with one salt are their digests of an input the same, so that each knows what was asked of the others.
    """
    return bytes.fromhex(store.transact(SALT, lambda held: (held or own.hex(),) * 2))


def _open_redis(address: str) -> Store:
    if not any(re.fullmatch(form, address, re.ASCII) for form in ADDRESSES.values()):
        raise MedwardError(
            f"store: give a file's name without a colon, or {' or '.join(ADDRESSES)}; "
            "rediss:// is with TLS; in a password write / ? # @ as %2F %3F %23 %40"
        )
    if "password=" in address:
        raise MedwardError("store: give the password before the host, as in redis://:password@host, not after a '?'")
    if find_spec("redis") is None:
        raise MedwardError("store: Redis needs the package redis: pip install 'medward[redis]'")
    from integrations.redis_store import RedisStore

    try:
        return RedisStore(address)
    except TypeError:
        raise MedwardError("store: the address has a setting after '?' that the redis client does not know") from None
