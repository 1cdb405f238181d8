from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from pfsmtp.config import CertificatePair
from pfsmtp.tls.certificate import Certificate, TLSError, load_pair
from tests.certificates import Usage, make_issuer, make_pair, rsa_key


def load(pair: CertificatePair) -> Certificate:
    return load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)


def failure(pair: CertificatePair) -> str:
    with pytest.raises(TLSError) as caught:
        load(pair)
    return str(caught.value)


def test_names_and_dates_are_those_of_the_certificate(tmp_path: Path) -> None:
    pair = make_pair(
        tmp_path, "a", ["MX.example.org", "*.example.net"], common_name="other.example"
    )
    certificate = load(pair)
    assert certificate.names == ("mx.example.org", "*.example.net")
    assert certificate.valid_from == pytest.approx(time.time() - 86400, abs=120)
    assert certificate.expires == pytest.approx(time.time() + 30 * 86400, abs=120)


def test_common_name_counts_where_there_is_no_other(tmp_path: Path) -> None:
    assert load(make_pair(tmp_path, "a", [], common_name="cn.example")).names == ("cn.example",)


@pytest.mark.parametrize("days", [(-30, -2), (2, 30)], ids=["expired", "not yet valid"])
def test_dates_are_no_failure(tmp_path: Path, days: tuple[int, int]) -> None:
    assert load(make_pair(tmp_path, "a", ["a.example"], days=days)).names == ("a.example",)


def test_rsa_key(tmp_path: Path) -> None:
    assert load(make_pair(tmp_path, "a", ["a.example"], key=rsa_key())).names == ("a.example",)


@pytest.mark.parametrize("with_root", [False, True])
def test_chain_of_an_authority(tmp_path: Path, *, with_root: bool) -> None:
    root = make_issuer("root")
    middle = make_issuer("middle", root)
    chain = [middle, root] if with_root else [middle]
    pair = make_pair(tmp_path, "a", ["leaf.example"], chain=chain)
    assert load(pair).names == ("leaf.example",)


def test_certificate_and_key_in_one_file(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    assert load(CertificatePair(certificate=both, key=both)).names == ("a.example",)


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_missing_file_is_named(tmp_path: Path, which: str) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    path: Path = getattr(pair, which)
    path.unlink()
    assert f"{path}: the" in failure(pair)
    assert "does not exist; correct the path" in failure(pair)


def test_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    pair.key.unlink()
    pair.key.mkdir()
    assert f"{pair.key}: the private key file cannot be read (Is a directory)" in failure(pair)


@pytest.mark.parametrize("octets", [b"", b"garbage\n"])
@pytest.mark.parametrize(
    ("which", "what"), [("certificate", "certificate"), ("key", "private key")]
)
def test_file_without_pem_is_named(tmp_path: Path, which: str, what: str, octets: bytes) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    path: Path = getattr(pair, which)
    path.write_bytes(octets)
    assert failure(pair).startswith(f"{path}: there is no {what} in PEM form")


def test_swapped_files_are_seen(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    swapped = CertificatePair(certificate=pair.key, key=pair.certificate)
    assert "may have been swapped" in failure(swapped)


def test_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    other = make_pair(tmp_path, "b", ["b.example"])
    mixed = CertificatePair(certificate=pair.certificate, key=other.key)
    assert failure(mixed).startswith(f"{other.key}: this is not the key")


def test_own_certificate_after_its_issuer_says_so(tmp_path: Path) -> None:
    root = make_issuer("root")
    pair = make_pair(tmp_path, "a", ["leaf.example"], chain=[root])
    own = pair.certificate.read_bytes().removesuffix(root.pem)
    pair.certificate.write_bytes(root.pem + own)
    assert "put the server's own certificate before" in failure(pair)


def test_encrypted_key_is_an_error_and_asks_nobody(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"], password=b"secret")
    assert failure(pair).startswith(f"{pair.key}: the private key is encrypted")


def test_weak_key_is_an_error(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"], key=rsa_key(1024))
    assert f"{pair.certificate}: the key or the digest is too weak" in failure(pair)


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_damaged_file_is_an_error(tmp_path: Path, which: str) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"])
    path: Path = getattr(pair, which)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:8], b"\n", lines[-1]]))
    assert str(path) in failure(pair)
    assert "is damaged" in failure(pair)


def test_certificate_of_a_client_is_an_error(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", ["a.example"], usage=Usage.CLIENT_AUTH)
    assert "get one that was issued for a TLS server" in failure(pair)
    assert str(pair.certificate) in failure(pair)
