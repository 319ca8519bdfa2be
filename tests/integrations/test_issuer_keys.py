"""The issuer's keys from an address: how old a copy may be, what makes it fetch anew, and what is not read."""

from __future__ import annotations

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.issuer import AUDIENCE, ISSUER, ec_key, key_address, key_set, public_jwk, rsa_key

from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.serving.identity import fetched_document
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.identity.signing_keys import UNKNOWN_PAUSE, IssuerKeys, SigningKeys

FRESH, STALE = 300.0, 3600.0


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def address():
    with key_address() as kept:
        yield kept


@pytest.fixture
def keys(address, clock):
    chosen = IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks=address.url, fresh=FRESH, stale=STALE)
    return IssuerKeys(chosen, clock)


def find(keys, key_id="one", algorithm="RS256"):
    return asyncio.run(keys.find(key_id, algorithm))


def test_keys_are_fetched_once_while_they_are_fresh(keys, address, clock):
    for _ in range(3):
        assert find(keys)
        clock.now += FRESH / 3
    assert len(address.asked) == 1
    clock.now += 1
    assert find(keys)
    assert len(address.asked) == 2


def test_many_who_ask_at_once_cause_one_fetch(keys, address):
    async def all_at_once():
        return await asyncio.gather(*(keys.find("one", "RS256") for _ in range(50)))

    assert all(asyncio.run(all_at_once()))
    assert len(address.asked) == 1


def test_an_address_that_is_down_leaves_the_copy_for_a_bounded_time(keys, address, clock):
    assert find(keys)
    address.answer = (500, {}, b"")
    clock.now += STALE
    assert find(keys), "a copy of an hour serves while there is no newer one"
    clock.now += 1
    with pytest.raises(UnavailableError, match="answers 500"):
        find(keys)
    with pytest.raises(UnavailableError):
        asyncio.run(keys.check_ready())
    address.serve()
    clock.now += 3
    assert find(keys)
    asyncio.run(keys.check_ready())


def test_a_down_address_is_not_asked_by_every_token(keys, address, clock):
    address.answer = (500, {}, b"")
    for _ in range(5):
        with pytest.raises(UnavailableError):
            find(keys)
    assert len(address.asked) == 1


def test_keys_that_were_swapped_count_once_the_copy_is_fetched_anew(keys, address, clock):
    old = find(keys)
    address.serve(public_jwk(rsa_key(1), kid="two"))
    assert find(keys) is old
    clock.now += FRESH + 1
    assert find(keys) is None, "the issuer took it back"
    assert find(keys, "two")


def test_an_unknown_key_has_the_keys_fetched_but_not_by_every_token(keys, address, clock):
    assert find(keys)
    address.serve(public_jwk(rsa_key()), public_jwk(rsa_key(1), kid="two"))
    clock.now += UNKNOWN_PAUSE
    assert find(keys, "two")
    assert len(address.asked) == 2
    for number in range(20):
        assert find(keys, f"made up {number}") is None
    assert len(address.asked) == 2
    clock.now += UNKNOWN_PAUSE
    assert find(keys, "made up") is None
    assert len(address.asked) == 3


def test_whether_an_unknown_key_is_the_issuer_s_cannot_be_told_while_the_address_is_down(keys, address, clock):
    assert find(keys)
    address.answer = (503, {}, b"")
    clock.now += UNKNOWN_PAUSE
    with pytest.raises(UnavailableError):
        find(keys, "two")
    assert find(keys)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(keys, address, status):
    with key_address() as elsewhere:
        address.answer = (status, {"Location": elsewhere.url}, b"")
        with pytest.raises(UnavailableError, match=f"answers {status}"):
            find(keys)
        assert not elsewhere.asked


def test_a_document_is_bounded_in_size(keys, address):
    address.answer = (200, {}, b" " * (fetched_document.MOST_DOCUMENT_BYTES - len(key_set())) + key_set())
    assert find(keys)


def test_a_document_that_is_larger_is_not_read_to_its_end(keys, address):
    address.answer = (200, {}, b" " * (64 * fetched_document.MOST_DOCUMENT_BYTES))
    with pytest.raises(UnavailableError, match="more than 262144 bytes"):
        find(keys)


@pytest.mark.parametrize("drip", [0.0, 0.05])
def test_an_address_has_so_much_time_in_all_be_it_silent_or_slow(keys, address, monkeypatch, drip):
    monkeypatch.setattr(fetched_document, "MOST_DOCUMENT_SECONDS", 0.3)
    if drip:
        address.drip = drip  # each byte in time, the whole document not
    else:
        address.answer = None
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 s"):
        find(keys)


def test_an_address_where_nobody_listens_is_down(clock):
    with key_address() as gone:
        url = gone.url
    keys = IssuerKeys(IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks=url), clock)
    with pytest.raises(UnavailableError, match="ConnectError"):
        find(keys)


def test_a_file_counts_when_it_changes_and_its_loss_is_an_outage(tmp_path, clock):
    file = tmp_path / "keys.json"
    file.write_bytes(key_set())
    keys = IssuerKeys(IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(file), stale=600), clock)
    assert find(keys)
    file.write_bytes(key_set(public_jwk(rsa_key(1), kid="two")))
    clock.now += 2
    assert find(keys) is None
    assert find(keys, "two")
    file.unlink()
    clock.now += 600
    assert find(keys, "two")
    clock.now += 5
    with pytest.raises(UnavailableError, match="cannot be read"):
        find(keys, "two")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [1, "x", null, {}]}', b"[" * 9999, b"<html>",
     json.dumps({"keys": [public_jwk(rsa_key())] * 101}).encode()],
)  # fmt: skip
def test_what_is_no_set_of_keys_is_an_outage_and_no_crash(content):
    with pytest.raises(MedwardError, match="the issuer's keys"):
        SigningKeys.read(content, ["RS256"])


@pytest.mark.parametrize(
    "jwk",
    [
        public_jwk(rsa_key(7, 1024)),
        public_jwk(rsa_key(), use="enc"),
        public_jwk(rsa_key(), key_ops=["encrypt"]),
        public_jwk(rsa_key(), alg="PS256"),
        public_jwk(rsa_key(), d="AQAB"),
        public_jwk(rsa_key(), n="!"),
        public_jwk(rsa_key(), kid=7),
        public_jwk(ec_key(ec.SECP384R1)),
        public_jwk(ec_key(ec.SECP256K1)),
    ],
)
def test_a_key_for_something_else_verifies_nothing(jwk):
    other = public_jwk(rsa_key(1), kid="other")
    read = SigningKeys.read(key_set(jwk, other), ["RS256", "ES256"])
    assert read.find("one", "RS256") is None
    assert read.find("one", "ES256") is None
    assert read.find("other", "RS256")


def test_two_keys_of_one_id_verify_nothing_and_a_token_without_an_id_needs_an_only_key():
    first, second = public_jwk(rsa_key()), public_jwk(rsa_key(1))
    other = public_jwk(ec_key(), kid="other")
    assert SigningKeys.read(key_set(first, second, other), ["RS256", "ES256"]).find("one", "RS256") is None
    assert SigningKeys.read(key_set(first, other), ["RS256", "ES256"]).find(None, "RS256")
    assert SigningKeys.read(key_set(first, {**second, "kid": "two"}), ["RS256"]).find(None, "RS256") is None
