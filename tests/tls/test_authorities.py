"""The file with the authorities of a smart host: what is taken from it, what is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pfsmtp.log import Log
from pfsmtp.tls import TLSError, client_context, read_authorities, server_context
from tests.certificates import make_issuer, make_pair
from tests.tls.memory import connect


def failure(path: Path) -> str:
    with pytest.raises(TLSError) as caught:
        read_authorities(path)
    return str(caught.value)


def test_certificates_are_taken_and_what_stands_between_them_is_not(
    tmp_path: Path, log: Log
) -> None:
    one, other = make_issuer("one"), make_issuer("other")
    file = tmp_path / "authorities.pem"
    file.write_bytes("# Überall gültig\n".encode() + one.pem + b"\0\xff\n" + other.pem)
    authorities = read_authorities(file)
    assert authorities.split() == (one.pem + other.pem).split()
    client = client_context(verify=True, authorities=authorities)
    for number, issuer in enumerate((one, other)):
        pair = make_pair(tmp_path, f"{number}", ["a.example"], chain=[issuer])
        assert connect(server_context([pair], log), client, name="a.example").client.getpeercert()


def test_no_other_authority_is_trusted_then(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_system, ours = make_issuer("of the system"), make_issuer("ours")
    system = tmp_path / "system.pem"
    system.write_bytes(of_the_system.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    server = server_context([make_pair(tmp_path, "a", ["a.example"], chain=[of_the_system])], log)
    assert connect(server, client_context(verify=True), name="a.example").client.getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|local issuer"):
        connect(server, client_context(verify=True, authorities=ours.pem), name="a.example")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert failure(missing) == (
        f"{missing}: the authorities cannot be read (No such file or directory); "
        "correct authorities in [relay], or put the file there"
    )
    assert "(Is a directory)" in failure(tmp_path)


def test_certificate_of_the_host_itself_can_be_named(tmp_path: Path, log: Log) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    client = client_context(verify=True, authorities=read_authorities(pair.certificate))
    assert connect(server_context([pair], log), client, name="a.example").client.getpeercert()


@pytest.mark.parametrize("octets", [b"", b"\n", b"garbage\n", b"-----BEGIN CERTIFICATE-----\n"])
def test_file_without_a_certificate_is_named(tmp_path: Path, octets: bytes) -> None:
    file = tmp_path / "authorities.pem"
    file.write_bytes(octets)
    assert failure(file).startswith(f"{file}: there is no certificate in PEM form in this file;")


def test_key_in_place_of_a_certificate_is_named(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    assert failure(pair.key).startswith(f"{pair.key}: there is no certificate in PEM form")


def test_damaged_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "authorities.pem"
    lines = make_issuer("a").pem.splitlines(keepends=True)
    file.write_bytes(make_issuer("whole").pem + b"".join([*lines[:2], *lines[3:]]))
    assert failure(file).startswith(f"{file}: a certificate in this file is damaged (")
