"""When a key was last used, to the day: enough to find keys that nobody needs, too little to follow anybody."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from medward.guard.accounts.stores import JsonValue, Store
from medward.guard.errors import MedwardError, UnavailableError

KEY_USE = "//key-use"  # no principal has an empty level, so none is mistaken for this state
_log = logging.getLogger("medward")


class KeyUse:
    """The last days on which keys were used, in `store`; a day of a key is written once, in a thread of its own.

    Days are UTC's. What cannot be written is logged and forgotten: nobody waits for it.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._noted, self._threads = store, set[tuple[str, str]](), ThreadPoolExecutor(1, "medward-use")

    def note(self, key_id: str) -> None:
        """Remember that the key was used today."""
        used = key_id, datetime.now(UTC).date().isoformat()
        if used not in self._noted:
            self._noted = {each for each in self._noted if each[1] == used[1]} | {used}
            self._threads.submit(self._write, *used)

    def close(self) -> None:
        """Wait for what is being written."""
        self._threads.shutdown()

    def _write(self, key_id: str, day: str) -> None:
        try:
            self._store.transact(KEY_USE, lambda state: ({**(state or {}), key_id: day}, None))
        except (MedwardError, UnavailableError) as error:
            _log.warning("when key %s was last used is not written: %s", key_id, error)


def last_uses(store: Store) -> dict[str, str]:
    """The last day on which each key was used, by its id."""
    state: JsonValue = store.get(KEY_USE)
    return dict(state) if isinstance(state, dict) else {}
