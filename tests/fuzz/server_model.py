"""What a server is to answer and to store, in as few words as will do: the model of the dialogue.

Each method takes a command, returns the octets to send, and notes the codes of the replies that are
to come. A code of one digit stands for all that begin with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pfsmtp.config import Limits, Octets
from pfsmtp.smtp.command import LONGEST_LINE
from tests.smtp import reference

LIMITS = Limits(message_size=Octets(300), recipients=3, messages=4, errors_close=7, idle_commands=5)

SENDERS = {
    "FROM:<a@example.net>": "250",
    "FROM:<>": "250",
    "from:<@relay.example:b@example.net> BODY=8BITMIME": "250",
    "FROM:<a@example.net> SIZE=300": "250",
    "FROM:<a@example.net> SIZE=301": "552",
    "FROM:<a@example.net> SIZE=": "501",
    "FROM:<a@example.net> FOO=BAR": "555",
    "FROM:<nobody@example.net>": "550",
    "FROM:<local>": "553",
    "FROM:<ä@example.net>": "550",
    "FROM:<ä@example.net> SMTPUTF8": "250",
    "FROM:<a@b@c>": "501",
    "FROM:<a@example.net": "501",
    "TO:<a@example.net>": "501",
    "FROM:<a\0@example.net>": "501",
    "": "501",
}
RECIPIENTS = {
    "TO:<alice@example.org>": "250",
    "TO:<BOB@Example.ORG>": "250",
    'TO:<"a b"@example.org>': "250",
    "TO:<postmaster>": "250",
    "TO:<nobody@example.org>": "550",
    "TO:<alice@elsewhere.example>": "550",
    "TO:<älice@example.org>": "553",
    "TO:<>": "501",
    "TO:<alice>": "553",
    "TO:<alice@example.org> NOTIFY=NEVER": "555",
    "TO: alice@example.org": "501",
    "TO:<alice@example.org>\r": "501",
    "": "501",
}
BEYOND_ASCII = "TO:<älice@example.org>"


@dataclass
class Transaction:
    """From MAIL on; `chunks` from the first BDAT on."""

    smtputf8: bool
    recipients: list[str] = field(default_factory=list)
    chunks: bytes | None = None


@dataclass
class ServerModel:
    """One connection as the model sees it."""

    stored: list[tuple[list[str], bytes]]
    """What is safe, of this connection and those before."""
    expected: list[str] = field(default_factory=lambda: ["220"])
    """The replies that are to come."""
    closed: bool = False
    encrypted: bool = False
    hello: bool = False
    draining: bool = False
    transaction: Transaction | None = None
    messages: int = 0
    errors: int = 0
    idled: int = 0
    data_refused: bool = False
    """DATA was the last command, and refused: what is no command now is a message that was sent
    without waiting."""
    begin_fails: str = ""
    commit_fails: str = ""
    """The code that the store's next failure has; it goes on to fail until it is set to ""."""

    # -- replies

    def say(self, code: str, *, close: bool = False) -> bool:
        """Note a reply; True when it is one of success."""
        if code[0] in "45":
            self.errors += 1
            if self.errors >= LIMITS.errors_close:
                code, close = "421", True
        self.expected.append(code)
        self.closed = self.closed or close
        return code[0] in "23"

    def idle(self) -> bool:
        """A command comes that brings no mail forward: whether the server ends it here."""
        self.idled += 1
        if self.idled <= LIMITS.idle_commands:
            return False
        self.errors += 1
        if self.errors < LIMITS.errors_close:
            return False
        self.say("421", close=True)
        return True

    def _ended(self) -> bool:
        """A command comes: whether the server ends it here, since it is draining."""
        self.data_refused = False
        if self.draining and self.transaction is None and self.messages:
            self.say("421", close=True)
            return True
        return False

    @property
    def in_chunks(self) -> bool:
        return self.transaction is not None and self.transaction.chunks is not None

    # -- commands

    def hello_command(self, verb: str, argument: str) -> bytes:
        if not self._ended():
            code = self._code_of_hello(argument)
            if not (code == "250" and self.idle()) and self.say(code):
                self.hello, self.transaction = True, None
        return f"{verb} {argument}\r\n".encode()

    def _code_of_hello(self, argument: str) -> str:
        if not argument or not argument.isprintable():
            return "501"
        return "503" if self.in_chunks else "250"

    def mail(self, argument: str) -> bytes:
        if not self._ended():
            code = SENDERS[argument]
            if argument and argument.isprintable():
                if not self.hello or self.transaction is not None:
                    code = "503"
                elif self.messages >= LIMITS.messages:
                    code = "421"
            if self.say(code, close=code == "421"):
                self.transaction = Transaction("SMTPUTF8" in argument)
                self.messages += 1
        return f"MAIL {argument}\r\n".encode()

    def rcpt(self, argument: str) -> bytes:
        if not self._ended():
            transaction, code = self.transaction, RECIPIENTS[argument]
            if argument and argument.isprintable():
                if transaction is None or self.in_chunks:
                    code = "503"
                elif code in ("250", "550") and len(transaction.recipients) >= LIMITS.recipients:
                    code = "452"
                elif argument == BEYOND_ASCII and transaction.smtputf8:
                    full = len(transaction.recipients) >= LIMITS.recipients
                    code = "452" if full else "250"
            if self.say(code) and transaction is not None:
                transaction.recipients.append(argument.partition("<")[2].partition(">")[0])
        return f"RCPT {argument}\r\n".encode()

    def data(self, body: bytes) -> bytes:
        """DATA, and `body`, which has its end, if the server is to take one."""
        octets = b"DATA\r\n"
        transaction = self.transaction
        if self._ended():
            return octets
        if transaction is None or self.in_chunks:
            self.data_refused = not self.say("503")
        elif not transaction.recipients:
            self.data_refused = not self.say("554")
        elif self.begin_fails:
            self.data_refused = not self.say(self.begin_fails)
        else:
            self.say("354")
            decoded = reference.decode(body, keep_cr=False)
            assert decoded.ended
            assert not decoded.rest
            faulty = decoded.bare or decoded.nul or decoded.size > LIMITS.message_size
            self._conclude(transaction, decoded.octets, faulty=faulty)
            octets += body
        return octets

    def bdat(self, size: str, last: str, octets: bytes) -> bytes:
        """BDAT; the octets are as many as `size` says, if it says a number."""
        command = f"BDAT {size}{last}\r\n".encode()
        if self._ended():
            return command
        if not self._is_chunk(size, last):
            self.say("501", close=True)
        elif octets or last or not self.idle():
            self._chunk(octets, last=bool(last))
        return command + octets

    def _is_chunk(self, size: str, last: str) -> bool:
        return (
            size.isascii() and size.isdigit() and len(size) <= 18 and last.upper() in ("", " LAST")
        )

    def _chunk(self, octets: bytes, *, last: bool) -> None:
        transaction = self.transaction
        if transaction is None:
            self.say("503")
            return
        if not transaction.recipients:
            self.say("554")
            return
        if transaction.chunks is None:
            if self.begin_fails:
                # The chunk is lost, so that what follows would be a message without its beginning.
                self.say(self.begin_fails)
                self.transaction = None
                return
            transaction.chunks = b""
        transaction.chunks += octets
        sent = transaction.chunks
        too_large = len(sent) > LIMITS.message_size
        if not last and not too_large:
            self.say("250")
            return
        lines = sent.split(b"\r\n")
        faulty = too_large or any(bad in line for line in lines for bad in (b"\r", b"\n", b"\0"))
        ended = sent if sent.endswith(b"\r\n") or not sent else sent + b"\r\n"
        self._conclude(transaction, ended.replace(b"\r\n", b"\n"), faulty=faulty)

    def _conclude(self, transaction: Transaction, octets: bytes, *, faulty: bool) -> None:
        """The end of the message."""
        self.transaction = None
        if faulty:
            self.say("5")
        elif self.commit_fails:
            self.say(self.commit_fails)
        else:
            self.stored.append((transaction.recipients, octets))
            self.errors = self.idled = 0
            self.say("250")

    def starttls(self, argument: str) -> bytes:
        if not self._ended():
            if argument:
                self.say("501")
            elif not self.hello or self.transaction is not None or self.encrypted:
                self.say("503")
            elif self.say("220"):
                self.encrypted, self.hello, self.transaction = True, False, None
        return f"STARTTLS {argument}".rstrip().encode() + b"\r\n"

    def starttls_with_more_behind(self, octets: bytes) -> bytes:
        """STARTTLS, and what an attacker has put behind it; only if it would be accepted."""
        if not self.hello or self.transaction is not None or self.encrypted:
            return b""
        if not self._ended():
            self.expected.append("554")
            self.closed = True
        return b"STARTTLS\r\n" + octets

    def rset(self) -> bytes:
        if not self._ended() and not self.idle():
            self.transaction = None
            self.say("250")
        return b"RSET\r\n"

    def quit(self) -> bytes:
        self.say("221", close=True)
        return b"quit\r\n"

    def noop(self) -> bytes:
        if not self._ended() and not self.idle():
            self.say("250")
        return b"NOOP whatever\r\n"

    def aside(self, verb: str, code: str) -> bytes:
        """A command that changes nothing, and is out of place between chunks."""
        if not self._ended():
            code = "503" if self.in_chunks else code
            if code[0] == "5" or not self.idle():
                self.say(code)
        return f"{verb} something\r\n".encode()

    # -- what is no command

    def unknown(self, line: bytes) -> bytes:
        unasked = self.data_refused
        if not self._ended():
            self._say_500(unasked=unasked)
        return line + b"\r\n"

    def too_long(self) -> bytes:
        self._say_500(unasked=self.data_refused)
        return b"NOOP " + b"x" * LONGEST_LINE + b"\r\n"

    def bare_line_feed(self) -> bytes:
        self._say_500(unasked=self.data_refused, close=True)
        return b"NOOP\n"

    def _say_500(self, *, unasked: bool, close: bool = False) -> None:
        self.data_refused = False
        self.say("554" if unasked else "500", close=unasked or close)

    def other_protocol(self) -> bytes:
        if not self._ended():
            self.say("554", close=True)
        return b"GET / HTTP/1.1\r\n"
