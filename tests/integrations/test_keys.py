import json
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest

from medward.guard.accounts.names import checked_principal
from medward.guard.errors import IntegrityError, MedwardError
from medward.integrations.serving.keys import KeyStore

WHO = ("hospital-a", "radiology", "key-17")


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "state" / "keys.json")


def test_a_key_opens_its_principal(store):
    token = store.add(WHO)
    assert re.fullmatch(r"mw_[0-9a-f]{8}_[0-9a-f]{64}", token)
    key = store.authenticate(token)
    assert key.principal == WHO
    assert key.scope == "predict"


def test_the_file_holds_no_token_and_is_for_its_owner_only(store):
    token = store.add(WHO)
    text = store.path.read_text()
    assert token not in text
    assert token.rpartition("_")[2] not in text
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert json.loads(text)["keys"][0]["principal"] == list(WHO)


def test_a_wrong_secret_a_wrong_id_and_other_text_open_nothing(store):
    token, other = store.add(WHO), store.add(WHO)
    flipped = token[:-1] + ("0" if token[-1] != "0" else "1")
    swapped = token[:12] + other[12:]
    unknown = "mw_" + "0" * 8 + token[11:]
    for wrong in (flipped, swapped, unknown, "", "mw_", token + "\n", token.upper(), "é" * 40):
        assert store.authenticate(wrong) is None
    assert store.authenticate(token) is not None


def test_every_spelling_of_a_name_is_one_account_also_in_a_file_that_holds_two(store):
    token, other = store.add(("Hospital-A ", "Ward")), store.add(("hospital-a", "ward"))
    assert store.authenticate(token).principal == store.authenticate(other).principal == ("hospital-a", "ward")
    text = store.path.read_text().replace("hospital-a", "HOSPITAL-A", 1)
    store.path.write_text(text)
    accounts = {checked_principal(key.principal) for key in store.list()}
    assert accounts == {("hospital-a", "ward")}
    store.revoke(f" {store.list()[0].id.upper()} ")
    assert [key.revoked is None for key in store.list()] == [False, True]


def test_a_clock_from_before_a_key_was_made_opens_no_key_that_has_an_end(store):
    now = datetime.now(UTC)
    for expires, valid in ((now + timedelta(days=30), False), (None, True)):
        store.add(WHO, expires=expires)
        key = store.list()[-1]
        assert key.valid(now)
        assert key.valid(datetime(1970, 1, 2, tzinfo=UTC)) is valid


def test_another_process_s_change_counts_at_once(store):
    server = KeyStore(store.path)
    token = store.add(WHO)
    key = server.authenticate(token)
    assert key is not None
    store.revoke(key.id)
    assert server.authenticate(token) is None
    assert [each.id for each in server.list()] == [key.id]
    assert server.list()[0].revoked is not None


def test_a_key_ends_when_it_expires(store, monkeypatch):
    token = store.add(WHO, expires=datetime.now(UTC) + timedelta(hours=1))
    assert store.authenticate(token) is not None
    key = store.list()[0]
    assert not key.valid(key.expires)
    assert key.valid(key.expires - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("principal", "options", "message"),
    [
        ((), {}, "1 to 8 levels"),
        (("a/b",), {}, "without '/'"),
        (WHO, {"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "must be in the future"),
        (WHO, {"expires": datetime(2999, 1, 1)}, "time zone"),
    ],
)
def test_a_bad_key_is_refused_and_nothing_is_written(store, principal, options, message):
    with pytest.raises(MedwardError, match=re.escape(message)):
        store.add(principal, **options)
    assert not store.path.exists()


def test_revoking_a_key_that_is_not_there_says_so(store):
    with pytest.raises(MedwardError, match="'beef' does not exist"):
        store.revoke("beef")


def test_writers_at_once_lose_no_key(store):
    tokens = []
    threads = [threading.Thread(target=lambda: tokens.append(KeyStore(store.path).add(WHO))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 12
    assert all(store.authenticate(token) for token in tokens)


def test_a_damaged_file_fails_closed(store):
    token = store.add(WHO)
    store.path.write_text(store.path.read_text()[:-5])
    with pytest.raises(IntegrityError, match=re.escape("keys.json: not a readable key file")):
        store.authenticate(token)
