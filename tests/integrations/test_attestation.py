"""A signed result verifies offline; any byte of envelope, report or bundle that is another is found and named."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.evidence_files import accepted, key_pair, lay_out, scripted_report

from medward.attacks.validation.waiving import today_utc
from medward.guard.errors import IntegrityError, MedwardError
from medward.integrations.cli import main
from medward.integrations.evidence.attest import attest_report, attested_tests
from medward.integrations.evidence.envelope import pre_authentication_encoding, sign_envelope, verified_payload
from medward.integrations.evidence.signing_keys import PublicKey, load_public_key, load_signing_key
from medward.integrations.evidence.statement import PAYLOAD_TYPE
from medward.integrations.evidence.verify import verify_attestation

# github.com/secure-systems-lab/dsse, protocol.md, "Test Vectors": ECDSA over P-256 and SHA-256, r and s one after other
HELLO = ("http://example.com/HelloWorld", b"hello world")
HELLO_ENCODED = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
HELLO_X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
HELLO_Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
HELLO_SIGNATURE = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
UNCHANGED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return scripted_report(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module", params=["ed25519", "p-256"])
def signed(request, report, tmp_path_factory):
    """Folder with report/, bundle/, attestation.json; the public key."""
    folder = tmp_path_factory.mktemp(request.param)
    private, public = key_pair(folder, request.param)
    lay_out(report, folder)
    (folder / "attestation.json").write_bytes(attest_report(folder / "report", load_signing_key(private)))
    return folder, load_public_key(public)


def verified(folder, key, **given):
    return verify_attestation(folder / "attestation.json", key, folder / "bundle", given.get("report"))


def test_the_encoding_that_is_signed_is_the_published_one():
    assert pre_authentication_encoding(*HELLO) == HELLO_ENCODED
    assert pre_authentication_encoding("", b"") == b"DSSEv1 0  0 "
    assert pre_authentication_encoding("ä", b"\n") == "DSSEv1 2 ä 1 \n".encode()  # lengths are in bytes
    key = PublicKey(ec.EllipticCurvePublicNumbers(HELLO_X, HELLO_Y, ec.SECP256R1()).public_key())
    raw = base64.b64decode(HELLO_SIGNATURE)
    signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    assert key.verifies(signature, pre_authentication_encoding(*HELLO))
    assert not key.verifies(signature, pre_authentication_encoding(HELLO[0], b"hello worle"))


@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
def test_two_payloads_are_never_encoded_alike(one, other):
    assert (pre_authentication_encoding(*one) == pre_authentication_encoding(*other)) is (one == other)


def test_what_was_signed_verifies_and_says_what_failed(signed):
    folder, key = signed
    found = verified(folder, key, report=folder / "report")
    assert found.report_compared
    assert set(found.files) == {each.name for each in (folder / "bundle").iterdir()}
    assert (found.tests.result, found.annotations["status"]) == ("FAILED", "BROKEN")
    assert "kept-out" in found.tests.passedTests
    assert "got-through" in found.tests.failedTests
    assert "weak" in found.tests.failedTests  # nothing showed that it is kept out: no reader may take it for shown
    assert not found.passes(today_utc())
    assert any("got-through" in each for each in found.sentences(today_utc()))


@UNCHANGED
@given(data=st.data())
def test_one_bit_that_is_another_is_found_in_envelope_report_and_every_file_of_the_bundle(signed, data):
    folder, key = signed
    names = ["attestation.json", "report/report.json", *(f"bundle/{name}" for name in os.listdir(folder / "bundle"))]
    file = folder / data.draw(st.sampled_from(sorted(names)))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        file.write_bytes(bytes(changed))
        with pytest.raises(IntegrityError, match=file.name):
            verified(folder, key, report=folder / "report")
    finally:
        file.write_bytes(whole)
    verified(folder, key, report=folder / "report")  # the control: what was put back verifies


def test_members_that_nobody_signed_spaces_and_another_name_of_the_key_are_found(signed):
    folder, key = signed
    envelope = json.loads((folder / "attestation.json").read_bytes())
    renamed = {**envelope, "signatures": [{**envelope["signatures"][0], "keyid": "f" * 64}]}
    for content in (envelope, {**envelope, "note": "approved"}, renamed):
        with pytest.raises(IntegrityError, match="not as it was written"):
            verified_payload(json.dumps(content, indent=2).encode(), PAYLOAD_TYPE, key)
    with pytest.raises(IntegrityError, match="no DSSE envelope with one signature"):
        verified_payload(json.dumps({**envelope, "signatures": []}).encode(), PAYLOAD_TYPE, key)


def test_files_that_came_or_went_are_named(report, tmp_path):
    private, public = key_pair(tmp_path, "ed25519")
    lay_out(report, tmp_path)
    (tmp_path / "attestation.json").write_bytes(attest_report(tmp_path / "report", load_signing_key(private)))
    key = load_public_key(public)
    (tmp_path / "bundle" / "more.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"more\.bin: is not among the files that were tested"):
        verified(tmp_path, key)
    (tmp_path / "bundle" / "more.bin").unlink()
    (tmp_path / "bundle" / "policy.toml").rename(tmp_path / "policy.toml")
    with pytest.raises(IntegrityError, match=r"lacks policy\.toml"):
        verified(tmp_path, key)
    (tmp_path / "bundle" / "policy.toml").symlink_to(tmp_path / "policy.toml")
    with pytest.raises(IntegrityError, match="regular file"):
        verified(tmp_path, key)


def test_another_key_and_another_payload_type_are_refused(signed, tmp_path):
    folder, _ = signed
    private, public = key_pair(tmp_path, "ed25519")
    with pytest.raises(IntegrityError, match="another key signed it"):
        verified(folder, load_public_key(public))
    envelope = sign_envelope("text/plain", b"{}", load_signing_key(private))
    with pytest.raises(IntegrityError, match="holds 'text/plain'"):
        verified_payload(envelope, PAYLOAD_TYPE, load_public_key(public))
    (folder.parent / "other.json").write_bytes(sign_envelope(PAYLOAD_TYPE, b"{}", load_signing_key(private)))
    with pytest.raises(IntegrityError, match="no in-toto statement of test results"):
        verify_attestation(folder.parent / "other.json", load_public_key(public), folder / "bundle")


def test_a_bundle_that_the_report_is_not_of_is_not_attested(report, tmp_path):
    private, _ = key_pair(tmp_path, "ed25519")
    key = load_signing_key(private)
    other = report.provenance.model_copy(update={"bundle": "f" * 64})
    folder, _ = lay_out(report.model_copy(update={"provenance": other}), tmp_path)
    with pytest.raises(MedwardError, match=r"is of bundle ffffffffffff.*validate this one"):
        attest_report(folder, key)
    folder, bundle = lay_out(report, tmp_path / "own")
    (bundle / "model.onnx").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        attest_report(folder, key)
    with pytest.raises(MedwardError, match="cannot be read"):
        attest_report(tmp_path / "nowhere", key)


@pytest.mark.parametrize(("days", "passes"), [(3, True), (0, True), (-1, False)])
def test_what_is_lived_with_passes_with_a_warning_until_its_last_day(report, tmp_path, days, passes):
    private, public = key_pair(tmp_path, "ed25519")
    held, broken, *_ = report.findings
    lay_out(report.model_copy(update={"findings": (held, accepted(broken, days))}), tmp_path)
    (tmp_path / "attestation.json").write_bytes(attest_report(tmp_path / "report", load_signing_key(private)))
    found = verified(tmp_path, load_public_key(public))
    assert (found.tests.result, found.tests.warnedTests) == ("WARNED", ("got-through",))
    assert found.passes(today_utc()) is passes
    assert any("which is over" in each for each in found.sentences(today_utc())) is not passes


def test_only_what_held_passes(report):
    tests = attested_tests(report.model_copy(update={"findings": report.findings[:1]}), "0" * 64)
    assert (tests.result, tests.passedTests, tests.failedTests) == ("PASSED", ("kept-out",), ())
    assert attested_tests(report.model_copy(update={"findings": report.findings[2:3]}), "0" * 64).result == "FAILED"


def test_the_command_signs_and_verifies_and_no_message_shows_a_key(report, tmp_path, capsys):
    private, public = key_pair(tmp_path, "p-256")
    folder, bundle = lay_out(report, tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["attest", str(folder), "--key", str(private)])
    assert ended.value.code == 0
    envelope = folder / "attestation.json"
    for key, code in ((public, 1), (private, 3)):  # the report has a row that is BROKEN; a private key is refused
        with pytest.raises(SystemExit) as ended:
            main(
                ["attest", "verify", str(envelope), "--key", str(key), "--bundle", str(bundle), "--report", str(folder)]
            )
        assert ended.value.code == code
    said = capsys.readouterr()
    assert "all 4 files of the bundle are those that were tested" in said.out
    assert "is a private key, and verifying takes the public one" in said.err
    secret = "".join(private.read_text().splitlines()[1:-1])
    assert secret[20:40] not in said.out + said.err + repr(load_signing_key(private)) + envelope.read_text()


def test_keys_of_other_kinds_and_locked_ones_are_refused_in_a_sentence(tmp_path, monkeypatch):
    made = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(made), "2048"], check=True, capture_output=True)
    with pytest.raises(MedwardError, match="key of another kind"):
        load_signing_key(made)
    private, public = key_pair(tmp_path, "ed25519")
    locked = tmp_path / "locked.pem"
    lock = ["openssl", "pkey", "-in", str(private), "-aes256", "-passout", "pass:tulip", "-out", str(locked)]
    subprocess.run(lock, check=True, capture_output=True)
    with pytest.raises(MedwardError, match="is encrypted; put its password into MEDWARD_KEY_PASSWORD"):
        load_signing_key(locked)
    monkeypatch.setenv("MEDWARD_KEY_PASSWORD", "rose")
    with pytest.raises(MedwardError, match="is not its password"):
        load_signing_key(locked)
    monkeypatch.setenv("MEDWARD_KEY_PASSWORD", "tulip")
    assert load_signing_key(locked).public.key_id == load_public_key(public).key_id
    with pytest.raises(MedwardError, match="signing takes the private one"):
        load_signing_key(public)
    with pytest.raises(MedwardError, match="no public key in PEM"):
        load_public_key(Path(__file__))


def test_a_deployed_host_verifies_without_torch_or_the_attacks():
    code = "import medward.integrations.evidence.verify, sys\n"
    code += "print([m for m in sys.modules if 'attacks' in m or m == 'torch'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
