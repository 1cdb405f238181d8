"""Maildirs read by Dovecot's doveadm, with a configuration of its own and no daemon."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import needs
from tests.running.program import NOBODY

_CONFIGURATION = """\
base_dir = {directory}/run
log_path = /dev/stderr
ssl = no
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}
mail_home = {directory}/home
mail_location = maildir:{maildir}
"""
_SIZE = re.compile(rb"\f?\n?size\.physical: (\d+)\ntext:\n")


def read(maildir: Path) -> list[bytes]:
    """Return the messages of an INBOX, in Dovecot's order."""
    doveadm = needs.tool("doveadm", package="dovecot-core")
    owner = pwd.getpwnam(NOBODY) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with TemporaryDirectory(prefix="dovecot-") as directory:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
        configuration = Path(directory, "dovecot.conf")
        configuration.write_text(
            _CONFIGURATION.format(
                directory=directory, maildir=maildir, uid=owner.pw_uid, gid=owner.pw_gid
            )
        )
        configuration.chmod(0o644)
        done = subprocess.run(
            [
                doveadm,
                "-c",
                configuration,
                "fetch",
                "size.physical text",
                "mailbox",
                "INBOX",
                "all",
            ],
            capture_output=True,
            cwd=directory,
            env=os.environ | {"USER": owner.pw_name, "HOME": directory},
        )
    assert done.returncode == 0, done.stderr.decode()
    return list(_messages(done.stdout))


def _messages(output: bytes) -> Iterator[bytes]:
    position = 0
    while found := _SIZE.match(output, position):
        position = found.end() + int(found[1])
        yield output[found.end() : position]
    assert output[position:].strip() == b"", output[position : position + 200]
