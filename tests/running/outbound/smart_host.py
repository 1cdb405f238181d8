"""A smart host to run in a process of its own: aiosmtpd, with TLS and AUTH before all else.

python -m tests.running.outbound.smart_host ADDRESS PORT CERTIFICATE KEY MAILDIR LOGIN PASSWORD
"""

from __future__ import annotations

import ssl
import sys
import threading
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


def main() -> None:
    address, port, certificate, key, maildir, login, password = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        good = LoginPassword(login.encode(), password.encode())
        return AuthResult(success=data == good, handled=False)

    Controller(
        Mailbox(Path(maildir)),
        hostname=address,
        port=int(port),
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    ).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
