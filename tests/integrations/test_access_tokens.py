"""Access tokens: what of an issuer is taken, and that nothing else is, whatever a token says of itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from support.issuer import AUDIENCE, ISSUER, claims, ec_key, ed_key, key_set, public_jwk, rsa_key, signed

from medward.guard.errors import MedwardError
from medward.integrations.serving.identity import access_tokens
from medward.integrations.serving.identity.access_tokens import TokenVerifier
from medward.integrations.serving.identity.settings import ALGORITHMS, IdentitySettings
from medward.integrations.serving.identity.signing_keys import IssuerKeys
from medward.integrations.serving.identity.verified_token import TokenError


@pytest.fixture
def verifying(tmp_path):
    """Make a verifier of tokens by the keys given, or by the first RSA key."""

    def make(*keys, **settings):
        (tmp_path / "keys.json").write_bytes(key_set(*keys))
        said = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(tmp_path / "keys.json")}
        chosen = IdentitySettings(**{**said, "organisation": "hospital-a", **settings})
        return TokenVerifier(chosen, IssuerKeys(chosen))

    return make


def verified(verifier, token, certificate=None):
    return asyncio.run(verifier.verify(token, lambda: certificate))


def refusal_of(verifier, token, certificate=None):
    with pytest.raises(TokenError) as error:
        verified(verifier, token, certificate)
    return str(error.value)


def encoded(part):
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def by_hand(header, payload, key=None):
    """A token with any header and payload, with a true RS256 signature."""
    signing = f"{encoded(header)}.{encoded(payload)}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(signing.encode(), key or rsa_key())
    return f"{signing}.{encoded(signature)}"


HEADER = {"alg": "RS256", "kid": "one", "typ": "JWT"}


def test_a_good_token_names_a_principal_and_opens_what_its_scopes_say(verifying):
    found = verified(verifying(), signed())
    assert found.principal == ("hospital-a", "radiology-pacs")
    assert found.scopes == {"predict"}
    assert found.digest == verified(verifying(), signed(exp=int(time.time()) + 100)).digest  # of its jti
    assert found.digest != verified(verifying(), signed(jti="j-2")).digest
    assert verified(verifying(), by_hand(HEADER, claims())).principal == found.principal  # the control of `by_hand`


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_allowed_algorithm_verifies_and_only_when_it_is_allowed(verifying, algorithm):
    curves = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    key = ec_key(curves[algorithm]) if algorithm in curves else ed_key() if algorithm == "EdDSA" else rsa_key()
    token = signed(key, algorithm)
    assert verified(verifying(public_jwk(key), algorithms=algorithm), token)
    other = "ES256" if algorithm != "ES256" else "RS256"
    both = (public_jwk(key), public_jwk(ec_key() if other == "ES256" else rsa_key(), kid="two"))
    assert "of a kind that is not taken" in refusal_of(verifying(*both, algorithms=other), token)


def test_neither_none_nor_a_shared_secret_can_be_allowed():
    for algorithm in ("none", "HS256", "HS512", "rs256", "ES256K"):
        with pytest.raises(MedwardError, match="is none of RS256"):
            IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks="k", algorithms=f"RS256 {algorithm}")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, ["RS256"], {"RS256": 1}])
def test_a_token_without_a_signature_is_not_taken(verifying, name):
    header = {**HEADER, "alg": name}
    for signature in ("", encoded(b"x"), signed().rpartition(".")[2]):
        refusal_of(verifying(), f"{encoded(header)}.{encoded(claims())}.{signature}")


def test_a_public_key_is_no_shared_secret(verifying):
    """The classic confusion: HS256 by the bytes of the public key, in all the forms it is known in."""
    public = rsa_key().public_key()
    forms = [public.public_bytes(coding, kind) for coding, kind in (
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.PEM, PublicFormat.PKCS1),
        (Encoding.DER, PublicFormat.SubjectPublicKeyInfo))]  # fmt: skip
    forms += [json.dumps(public_jwk(rsa_key())).encode(), key_set()]
    for secret in forms:
        for name, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
            signing = f"{encoded({**HEADER, 'alg': name})}.{encoded(claims())}"
            token = f"{signing}.{encoded(hmac.new(secret, signing.encode(), digest).digest())}"
            assert "of a kind that is not taken" in refusal_of(verifying(), token)
            lying = f"{encoded(HEADER)}.{encoded(claims())}.{encoded(hmac.new(secret, b'x', digest).digest())}"
            refusal_of(verifying(), lying)


def test_a_shared_secret_in_the_key_set_verifies_nothing(verifying):
    secret = {"kty": "oct", "k": encoded(b"s" * 32), "kid": "shared", "alg": "RS256"}
    token = jwt.encode(claims(), b"s" * 32, "HS256", headers={"kid": "shared"})
    refusal_of(verifying(secret, public_jwk(rsa_key())), token)
    refusal_of(verifying(secret, public_jwk(rsa_key())), by_hand({**HEADER, "kid": "shared"}, claims()))


@pytest.mark.parametrize(
    "kid",
    ["../../../dev/null", "/dev/null", "one\x00", "one' OR '1'='1", "|ls", "http://127.0.0.1/keys", "", "ONE",
     "x" * 999, 1, True, ["one"], {"one": 1}, 1e308],
)  # fmt: skip
def test_a_key_id_is_looked_up_and_nothing_else(verifying, kid):
    refusal_of(
        verifying(public_jwk(rsa_key()), public_jwk(rsa_key(1), kid="two")), by_hand({**HEADER, "kid": kid}, claims())
    )


def test_keys_that_a_token_brings_along_are_not_looked_at(verifying):
    """A stranger's key in the header, or an address of it, changes nothing: not for his tokens, nor for good ones."""
    brought = {
        "jwk": public_jwk(rsa_key(1)),
        "jku": "http://127.0.0.1:1/keys",
        "x5u": "http://127.0.0.1:1/certificate",
        "x5c": ["MIIB"],
    }
    for name, value in brought.items():
        assert "signature" in refusal_of(verifying(), signed(rsa_key(1), headers={name: value}))
        assert verified(verifying(), signed(headers={name: value}))


def now(seconds):
    return int(time.time()) + seconds


@dataclass(frozen=True)
class After:
    """A time as it is when the test runs, which may be long after its parameters were collected."""

    seconds: int


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iss": "https://login.other.example"}, "of another issuer"),
        ({"iss": ISSUER + "/"}, "of another issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "https://another.example"}, "for another audience"),
        ({"aud": [AUDIENCE + "/x", "y"]}, "for another audience"),
        ({"aud": []}, "lacks a claim"),
        ({"aud": 7}, "audience"),
        ({"exp": After(-60), "iat": After(-120)}, "it has expired"),
        ({"nbf": After(120)}, "not valid yet"),
        ({"iat": After(120), "exp": After(300)}, "not valid yet"),
        ({"exp": After(10**7)}, "valid for more than"),
        ({"exp": "never"}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": -1}, "exp is no time"),
        ({"exp": 10**30}, "exp is no time"),
        ({"nbf": {"at": 1}}, "nbf is no time"),
        ({"iss": None}, "lacks the claim iss"),
        ({"aud": None}, "lacks the claim aud"),
        ({"exp": None}, "lacks the claim exp"),
        ({"iat": None}, "lacks the claim iat"),
        ({"jti": 7}, "jti"),
        ({"jti": "j" * 300}, "jti"),
        ({"client_id": None}, "does not say client_id"),
        ({"client_id": ""}, "does not say client_id"),
        ({"client_id": ["a"]}, "does not say client_id"),
        ({"client_id": "a\u200bb"}, "cannot name an account"),
        ({"client_id": "p\u0430cs"}, "cannot name an account"),  # a Cyrillic letter among Latin ones
        ({"client_id": "a" * 129}, "cannot name an account"),
        ({"cnf": {"jkt": "x"}}, "a proof that this server does not take"),
        ({"cnf": {"x5t#S256": "x"}}, "another client certificate"),
        ({"cnf": None, "sub": 7}, "wrong"),
    ],
)  # fmt: skip
def test_a_token_that_says_the_wrong_thing_is_not_taken(verifying, changed, said):
    dated = {name: now(each.seconds) if isinstance(each, After) else each for name, each in changed.items()}
    token = by_hand(HEADER, claims(**dated))
    assert said in refusal_of(verifying(), token)


def test_clocks_may_differ_by_the_leeway_and_no_more(verifying):
    late, early = {"exp": now(-20), "iat": now(-60)}, {"nbf": now(20), "iat": now(20)}
    for changed in (late, early):
        assert verified(verifying(leeway=60), signed(**changed))
        refusal_of(verifying(leeway=0), signed(**changed))
    with pytest.raises(MedwardError, match=r"identity\.leeway must be <= 300"):
        verifying(leeway=301)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"client_id": "x", "client_id": "y"}',
        b'{"exp": NaN}',
        b'{"exp": 1e999}',
        b"[" * 3000,
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"{",
        b"",
    ],
)
def test_a_payload_that_can_be_read_in_two_ways_or_none_is_not_taken(verifying, payload):
    if payload.startswith(b'{"'):  # beside all that a token needs
        payload = json.dumps(claims(exp=None, client_id=None)).encode()[:-1] + b', "exp": 1' + b", " + payload[1:]
    refusal_of(verifying(), by_hand(HEADER, payload))
    refusal_of(verifying(), by_hand(b'{"alg": "RS256", "alg": "none", "kid": "one"}', claims()))


def test_repeated_claims_are_refused_though_each_alone_is_good(verifying):
    good = json.dumps(claims()).encode()
    assert verified(verifying(), by_hand(HEADER, good))
    twice = good[:-1] + b', "client_id": "administrator"}'
    assert "cannot be read" in refusal_of(verifying(), by_hand(HEADER, twice))


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"typ": "dpop+jwt"},
        {"typ": "logout+jwt"},
        {"typ": 7},
    ],
)
def test_tokens_of_another_kind_are_not_taken(verifying, extra):
    assert "of a kind that is not taken" in refusal_of(verifying(), by_hand({**HEADER, **extra}, claims()))
    for kind in ("JWT", "at+jwt", "application/at+jwt"):
        assert verified(verifying(), signed(headers={"typ": kind}))


def test_a_huge_token_is_not_decoded(verifying):
    assert "cannot be read" in refusal_of(verifying(), signed(padding="x" * 9000))


@given(st.text(max_size=200) | st.lists(st.binary(max_size=60), min_size=3, max_size=3).map(
    lambda parts: ".".join(encoded(each) or "A" for each in parts)))  # fmt: skip
def test_no_text_is_taken_and_none_breaks_the_verifier(tmp_path_factory, text):
    chosen = IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks="there is none")
    with pytest.raises(TokenError):
        verified(TokenVerifier(chosen, IssuerKeys(chosen)), text)


def test_one_flipped_bit_of_any_part_is_seen(verifying):
    verifier, token = verifying(), signed()
    for place in range(0, len(token) - 1, 37):  # the last character holds spare bits
        if token[place] != ".":
            other = "A" if token[place] != "A" else "B"
            refusal_of(verifier, token[:place] + other + token[place + 1 :])


def test_claims_become_levels_that_no_two_claims_share(verifying):
    verifier = verifying(organisation="", claims="tenant client_id fhirUser")
    levels = {"tenant": "Hospital-B", "client_id": "PACS", "fhirUser": "Practitioner/12"}
    assert verified(verifier, signed(**levels)).principal == ("hospital-b", "pacs", "practitioner%2f12")
    other = verified(verifier, signed(**{**levels, "fhirUser": "Practitioner%2F12"})).principal
    assert other == ("hospital-b", "pacs", "practitioner%252f12")


@pytest.mark.parametrize(
    ("scope", "opened"),
    [
        ("system/DiagnosticReport.c", {"predict"}),
        ("system/*.cruds", {"predict", "metrics"}),
        ("system/DiagnosticReport.write", {"predict"}),
        (["openid", "system/DiagnosticReport.cruds"], {"predict"}),
        ("medward/admin", {"admin"}),
        ("system/DiagnosticReport.rs", set()),
        ("user/DiagnosticReport.c", set()),
        ("system/DiagnosticReport.c?status=final", set()),
        ("system/*.read", {"metrics"}),
        ("medward/ADMIN", set()),
        ("", set()),
        (7, set()),
    ],
)
def test_scopes_of_the_issuer_open_ours(verifying, scope, opened):
    verifier = verifying(metrics_scopes="system/AuditEvent.r", admin_scopes="medward/admin")
    assert verified(verifier, signed(scope=scope)).scopes == opened


def test_without_more_said_no_token_opens_metrics_or_administration(verifying):
    assert verified(verifying(), signed(scope="system/*.cruds medward/admin metrics admin")).scopes == {"predict"}


def test_a_token_bound_to_a_certificate_is_its_holder_s_only(verifying):
    certificate = b"certificate in DER"
    bound = {"x5t#S256": encoded(hashlib.sha256(certificate).digest())}
    token = signed(cnf=bound)
    assert verified(verifying(), token, certificate)
    for other in (b"another", b"", None):
        assert "another client certificate" in refusal_of(verifying(), token, other)
    assert "does not take" in refusal_of(verifying(), signed(cnf={**bound, "jkt": "x"}), certificate)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"audience": ""}, "identity.audience: is needed"),
        ({"jwks": " "}, "identity.jwks: is needed"),
        ({"jwks": "http://login.example/keys"}, "over https only"),
        ({"jwks": "ftp://login.example/keys"}, "over https only"),
        ({"jwks": "https://user:password@login.example/keys"}, "without a user in it"),
        ({"jwks": "https:///keys"}, "give an address"),
        ({"jwks": "https://login.example:99999/keys"}, "give an address"),
        ({"claims": ""}, "name 1 to 7 claims"),
        ({"predict_scopes": "system/DiagnosticReport.x"}, "is no scope"),
        ({"stale": 1.0}, "must be >= identity.fresh"),
        ({"organisation": "a/b"}, "without '/'"),
        ({"life": 1}, "identity.life must be >= 60"),
    ],
)
def test_settings_that_would_not_do_are_refused(settings, said):
    given = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": "keys.json", **settings}
    with pytest.raises(MedwardError, match=said) as error:
        IdentitySettings(**given)
    assert "password" not in str(error.value)


@pytest.fixture
def clock(monkeypatch):
    """Seconds by which the clock of the verifier is ahead, with the dates of PyJWT left alone."""
    ahead = [0.0]
    true = time.time
    monkeypatch.setattr(access_tokens.time, "time", lambda: true() + ahead[0])
    return ahead


def test_a_token_that_was_taken_is_judged_anew_each_time_it_comes(verifying, clock):
    verifier = verifying(leeway=0)
    held = b"certificate in DER"
    token = signed(cnf={"x5t#S256": encoded(hashlib.sha256(held).digest())})
    assert verified(verifier, token, held) is verified(verifier, token, held)
    assert "another client certificate" in refusal_of(verifier, token, b"another")
    clock[0] = 301
    assert "expired" in refusal_of(verifier, token, held)
    clock[0] = -301
    assert "not valid yet" in refusal_of(verifier, token, held)
    clock[0] = 0
    assert verified(verifier, token, held)


def test_a_token_that_was_taken_is_not_once_the_issuer_takes_its_key_back(tmp_path):
    at = [0.0]
    (tmp_path / "keys.json").write_bytes(key_set())
    chosen = IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(tmp_path / "keys.json"))
    verifier, token = TokenVerifier(chosen, IssuerKeys(chosen, lambda: at[0])), signed()
    assert verified(verifier, token)
    (tmp_path / "keys.json").write_bytes(key_set(public_jwk(rsa_key(1))))  # another key of the same id
    at[0] = 2.0
    assert "signature" in refusal_of(verifier, token)
    assert verified(verifier, signed(rsa_key(1)))


def test_what_is_remembered_of_tokens_is_bounded_and_only_of_those_taken(verifying, monkeypatch):
    monkeypatch.setattr(access_tokens, "MOST_TAKEN", 3)
    verifier = verifying()
    for number in range(5):
        verified(verifier, signed(jti=str(number)))
        refusal_of(verifier, signed(rsa_key(1), jti=str(number)))
    assert len(verifier._taken) == 3
