"""What a configuration file may say: every section, key, type and default.

The structs are frozen and complete: whoever holds one needs no default of his own. Times are
float seconds, sizes are int octets, paths are absolute. What concerns more than one key, and what
the words of an error are, is left to `load`. `docs/configuration.md` explains each key to the
operator, and a test holds it to this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from pfsmtp.config.units import Address, Host, Hostname, Octets, PathTemplate, Seconds, SecondsOrOff

Count = Annotated[int, Meta(ge=1)]
CountOrAuto = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Share = Annotated[float, Meta(ge=0, le=0.9)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all sections have in common."""


class Listen(Section, frozen=True):
    """[listen]: where connections are taken."""

    smtp: tuple[Address, ...] = ()  # in clear, with STARTTLS
    smtps: tuple[Address, ...] = ()  # TLS from the first octet


class OutboundListen(Listen, frozen=True):
    """[listen] of the outbound server, which the machine's sendmail hands messages to."""

    sendmail: Path | None = None  # a socket; none: in the runtime directory, if there is one


class CertificatePair(Section, frozen=True, kw_only=True):
    """[[tls.more]]: a further certificate, for the names in it."""

    certificate: Path
    key: Path


class TLS(Section, frozen=True):
    """[tls]: the certificates that this server shows."""

    certificate: Path | None = None
    key: Path | None = None
    more: tuple[CertificatePair, ...] = ()


class Workers(Section, frozen=True):
    """[workers]: how many processes and threads there are."""

    processes: CountOrAuto = 0  # 0: one for each core that deliverers leave, and one at least
    connections: Count = 2000  # threads at most, per process
    pin: bool = True  # each process keeps to one core, while that has time for it
    drain: Seconds = Seconds.parse("30 s")  # after TERM, what is still open is cut off


class OutboundWorkers(Workers, frozen=True):
    """[workers] of the outbound server, which has deliverers too."""

    deliverers: CountOrAuto = 0  # 0: one


class Local(Section, frozen=True, kw_only=True):
    """[local]: the users of this machine and their Maildirs."""

    users: Path
    maildir: PathTemplate  # absolute, with {login} in it
    separator: str = "+"  # user+tag; "" switches tags off
    sync: Literal["files", "filesystem"] = "files"


class Queue(Section, frozen=True, kw_only=True):
    """[queue]: where mail waits."""

    directory: Path


class Relay(Section, frozen=True):
    """[relay]: how mail goes on to other hosts."""

    port: Port = 25
    nameserver: tuple[Address, ...] = ()  # none: the system's
    loopback: bool = False
    host: Host | None = None  # a smart host takes the place of MX look-up
    credentials: Path | None = None
    authorities: Path | None = None  # of the smart host's certificate; none: the system's
    connections: Count = 20  # to one destination, at a time
    recipients: Count = 50  # of a transaction
    messages: Count = 100  # of a connection
    addresses: Count = 5  # of an attempt
    reuse: SecondsOrOff = SecondsOrOff.parse("60 s")
    rate: CountOrAuto = 0  # new connections a minute to one destination; 0: no limit
    back_off: Seconds = Seconds.parse("1 min")  # the first, for a host that fails; doubled
    back_off_most: Seconds = Seconds.parse("1 h")


class Limits(Section, frozen=True):
    """[limits]: what a client may ask of the server."""

    message_size: Octets = Octets.parse("50 MiB")
    recipients: Count = 1000  # of a message
    messages: Count = 10_000  # of a connection
    command: Seconds = Seconds.parse("300 s")  # to wait for one
    data: Seconds = Seconds.parse("180 s")  # to wait for more of a message
    session: Seconds = Seconds.parse("30 min")
    minimum_rate: Octets = Octets.parse("100 B")  # a second, over the message so far
    minimum_rate_after: Seconds = Seconds.parse("60 s")
    greeting_delay: SecondsOrOff = SecondsOrOff.parse("1 s")  # loopback: none
    errors_slow: Count = 10
    errors_close: Count = 20
    idle_commands: Count = 100  # that bring no mail forward, until they count as errors
    client_connections: Count = 20  # at a time, per /32 or /64
    client_rate: Count = 60  # new ones a minute, per /32 or /64
    hops: Count = 50  # Received fields


class Timeouts(Section, frozen=True):
    """[schedule.timeouts]: how long to wait for another server (RFC 5321 §4.5.3.2)."""

    connect: Seconds = Seconds.parse("30 s")  # an address
    banner: Seconds = Seconds.parse("300 s")
    hello: Seconds = Seconds.parse("300 s")
    mail: Seconds = Seconds.parse("300 s")
    recipient: Seconds = Seconds.parse("300 s")
    data: Seconds = Seconds.parse("120 s")
    block: Seconds = Seconds.parse("180 s")
    final_dot: Seconds = Seconds.parse("600 s")  # shorter makes duplicates
    quit: Seconds = Seconds.parse("10 s")


class Schedule(Section, frozen=True):
    """[schedule]: when to try again, and when to give up."""

    retries: tuple[Seconds, ...] = tuple(
        Seconds.parse(text) for text in ("5 min", "10 min", "20 min", "40 min", "1 h")
    )  # the last repeats
    jitter: Share = 0.1
    expire: Seconds = Seconds.parse("5 d")
    expire_bounce: Seconds = Seconds.parse("2 d")
    delay_notice: SecondsOrOff = SecondsOrOff.parse("4 h")
    timeouts: Timeouts = Timeouts()


class LogFile(Section, frozen=True):
    """[log]: how and where events are written."""

    format: Literal["logfmt", "json"] = "logfmt"
    file: Path | None = None  # none: stderr


class Inbound(Section, frozen=True, kw_only=True, tag_field="role", tag="inbound"):
    """A server that takes mail for the users of this machine."""

    role: ClassVar[Literal["inbound"]] = "inbound"

    hostname: Hostname
    user: str | None = None
    group: str | None = None
    listen: Listen
    tls: TLS = TLS()
    workers: Workers = Workers()
    local: Local
    limits: Limits = Limits()
    log: LogFile = LogFile()


class Outbound(Section, frozen=True, kw_only=True, tag_field="role", tag="outbound"):
    """A server that takes mail from this machine for the world."""

    role: ClassVar[Literal["outbound"]] = "outbound"

    hostname: Hostname
    user: str | None = None
    group: str | None = None
    postmaster: str | None = None  # who gets double bounces
    listen: OutboundListen
    tls: TLS = TLS()
    workers: OutboundWorkers = OutboundWorkers()
    queue: Queue
    relay: Relay = Relay()
    limits: Limits = Limits()
    schedule: Schedule = Schedule()
    log: LogFile = LogFile()


Config: TypeAlias = Inbound | Outbound
