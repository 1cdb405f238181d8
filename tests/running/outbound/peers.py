"""Mail servers that are not ours, to receive what is relayed: smtp-sink, aiosmtpd, Postfix."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pfsmtp.config import CertificatePair
from tests import needs
from tests.running.program import eventually

NOBODY = "nobody"

_MASTER_CF = """\
{address}:{port} inet n - n - - smtpd
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual  unix - n n - - virtual
anvil    unix - - n - 1 anvil
postlog  unix-dgram n - n - 1 postlogd
"""


def listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def smtp_sink(address: str, port: int, *options: str) -> Iterator[None]:
    """Postfix's test server, which refuses, hangs and drops as its options say."""
    command = [needs.tool("smtp-sink", package="postfix"), *options]
    if os.geteuid() == 0:
        command += ["-u", NOBODY]
    sink = subprocess.Popen([*command, f"inet:{address}:{port}", "100"])
    try:
        eventually(lambda: listens(address, port), what=f"smtp-sink {options}")
        yield
    finally:
        sink.kill()
        sink.wait()


@contextmanager
def aiosmtpd(address: str, port: int, *, maildir: Path, pair: CertificatePair) -> Iterator[None]:
    """aiosmtpd's own command, which stores into a Maildir, with STARTTLS and SMTPUTF8."""
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-u", "-l", f"{address}:{port}"]
    command += ["--tlscert", str(pair.certificate), "--tlskey", str(pair.key)]
    server = subprocess.Popen([*command, "-c", "aiosmtpd.handlers.Mailbox", str(maildir)])
    try:
        eventually(lambda: listens(address, port), what="aiosmtpd")
        yield
    finally:
        server.kill()
        server.wait()


@contextmanager
def postfix(
    directory: Path, address: str, port: int, *, mailboxes: Sequence[str], pair: CertificatePair
) -> Iterator[Path]:
    """A Postfix in a directory of its own, with STARTTLS; yields where `{mailbox}/new/` is."""
    program = needs.tool("postfix")
    needs.root()
    conf, mail = directory / "conf", directory / "mail"
    for path in (conf, directory / "queue", directory / "data", mail):
        path.mkdir(parents=True)
    who = pwd.getpwnam(NOBODY)
    os.chown(directory / "data", pwd.getpwnam("postfix").pw_uid, -1)
    os.chown(mail, who.pw_uid, who.pw_gid)
    _let_in(directory)
    users = "".join(f"{mailbox} {mailbox}/\n" for mailbox in mailboxes)
    (conf / "users").write_text(users)
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": directory / "queue",
        "data_directory": directory / "data",
        "maillog_file": directory / "log",
        "maillog_file_prefixes": directory,
        "myhostname": "postfix.test",
        "mydestination": "",
        "inet_interfaces": "127.0.0.1",  # master.cf has the address
        "inet_protocols": "ipv4",
        "smtpd_peername_lookup": "no",
        "smtpd_recipient_restrictions": "reject_unauth_destination",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": pair.certificate,
        "smtpd_tls_key_file": pair.key,
        "smtpd_tls_received_header": "yes",
        "virtual_mailbox_domains": ", ".join({each.partition("@")[2] for each in mailboxes}),
        "virtual_mailbox_base": mail,
        "virtual_mailbox_maps": f"texthash:{conf}/users",
        "virtual_uid_maps": f"static:{who.pw_uid}",
        "virtual_gid_maps": f"static:{who.pw_gid}",
    }
    (conf / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    (conf / "master.cf").write_text(_MASTER_CF.format(address=address, port=port))
    with (directory / "output").open("wb") as output:
        subprocess.run([program, "-c", conf, "start"], stdout=output, stderr=output, check=True)
        try:
            eventually(lambda: listens(address, port), what="postfix")
            yield mail
        finally:
            subprocess.run([program, "-c", conf, "stop"], stdout=output, stderr=output, check=True)


def _let_in(directory: Path) -> None:
    """Let the users that Postfix runs as reach a directory of pytest's."""
    for path in (directory, *directory.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o011)
