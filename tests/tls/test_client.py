from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pfsmtp.log import Log
from pfsmtp.tls import client_context, server_context
from tests.certificates import make_pair, rsa_key
from tests.tls.memory import connect


def old_server(directory: Path, version: ssl.TLSVersion, *, bits: int = 2048) -> ssl.SSLContext:
    pair = make_pair(directory, "old", ["old.example"], key=rsa_key(bits))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(pair.certificate, pair.key)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2])
def test_opportunistic_takes_what_is_better_than_clear(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    server = old_server(tmp_path, version, bits=1024)
    ends = connect(server, client_context(verify=False), name="other.example")
    assert ends.client.version() == version.name.replace("_", ".")


def test_opportunistic_gets_the_best_there_is(tmp_path: Path, log: Log) -> None:
    server = server_context([make_pair(tmp_path, "a", ["a.example"])], log)
    ends = connect(server, client_context(verify=False), name="a.example")
    assert ends.client.version() == "TLSv1.3"


def test_opportunistic_has_no_cipher_without_a_certificate_or_encryption() -> None:
    for cipher in client_context(verify=False).get_ciphers():
        assert cipher["auth"] != "auth-null"
        assert cipher["strength_bits"] >= 128


def test_opportunistic_context_makes_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    client_context(verify=False)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "days", "trusted", "reason"),
    [
        ("a.example", (-1, 30), False, "self-signed"),
        ("b.example", (-1, 30), True, "Hostname mismatch"),
        ("a.example", (-30, -2), True, "expired"),
    ],
)
def test_verified_ends_the_handshake(
    tmp_path: Path, log: Log, name: str, days: tuple[int, int], trusted: bool, reason: str
) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"], days=days)
    client = client_context(verify=True)
    if trusted:
        client.load_verify_locations(pair.certificate)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        connect(server_context([pair], log), client, name=name)


def test_verified_connects_to_whom_it_trusts(tmp_path: Path, log: Log) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    client = client_context(verify=True)
    client.load_verify_locations(pair.certificate)
    assert connect(server_context([pair], log), client, name="a.example").client.getpeercert()


def test_verified_wants_tls_1_2(tmp_path: Path) -> None:
    assert client_context(verify=True).minimum_version is ssl.TLSVersion.TLSv1_2
