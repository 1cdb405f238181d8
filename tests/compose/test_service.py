"""How many workers of each kind a configuration comes to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfsmtp.compose.service import MailService
from pfsmtp.log import Log
from tests.process.forked import Child
from tests.running.program import free_port

INBOUND = """
role = "inbound"
hostname = "mx.example.org"
[local]
users = "users"
maildir = "mail/{{login}}"
[listen]
smtp = ["127.0.0.1:{port}"]
{more}
"""

OUTBOUND = """
role = "outbound"
hostname = "out.example.org"
[queue]
directory = "queue"
[listen]
smtp = ["127.0.0.1:{port}"]
{more}
"""


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        (INBOUND, "", {1: [1], 2: [2], 8: [8]}),
        (OUTBOUND, "", {1: [1, 1], 2: [1, 1], 8: [7, 1]}),
        (OUTBOUND, "[workers]\ndeliverers = 3", {2: [1, 3], 8: [5, 3]}),
        (OUTBOUND, "[workers]\nprocesses = 4", {2: [4, 1]}),
    ],
    ids=["inbound", "outbound", "many deliverers", "as told"],
)
def test_receivers_take_the_cores_that_deliverers_leave(
    text: str,
    more: str,
    expected: dict[int, list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "users").write_text("a : a@example.org\n")
    path = tmp_path / "server.toml"
    path.write_text(text.format(port=free_port(), more=more))
    seen = {}
    for cores in expected:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=cores: set(range(n)))

        def count() -> list[int]:
            service = MailService(path, Log(tmp_path / "log"), [])
            return [role.count for role in service.load().roles]

        seen[cores] = Child(count).result()
    assert seen == expected
