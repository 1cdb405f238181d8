from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pfsmtp.log import Log
from pfsmtp.smtp.envelope import Encryption
from pfsmtp.tls import describe, server_context
from tests.certificates import make_pair
from tests.tls.memory import anyone, connect


def test_version_and_cipher_of_both_ends(tmp_path: Path, log: Log) -> None:
    ends = connect(server_context([make_pair(tmp_path, "a", ["a.example"])], log))
    assert describe(ends.server) == Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert describe(ends.client) == describe(ends.server)


def test_before_the_handshake_there_is_nothing_to_describe() -> None:
    connection = anyone().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(ValueError, match="handshake is not done"):
        describe(connection)
