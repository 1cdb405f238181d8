"""The configuration under test, changed as little as can be.

What is changed: every path leads into the directory of the test, addresses are those of loopback,
users are the test's, mail leaves for hosts on loopback only, and what is deferred is tried again
within seconds. All else is the operator's: processes, limits, the way of syncing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from pfsmtp.config import (
    TLS,
    Address,
    Inbound,
    Listen,
    Local,
    LogFile,
    Outbound,
    OutboundListen,
    Queue,
    Relay,
    Schedule,
    Seconds,
    SecondsOrOff,
)
from pfsmtp.config.units import PathTemplate

DOMAIN = "crashtest.invalid"

_RETRIES = ("1 s", "1 s", "1 s", "1 s", "2 s", "2 s", "4 s", "8 s")


def users(count: int) -> Mapping[str, str]:
    """The users of a test: the address of each by its login."""
    logins = [f"user{number:02}" for number in range(count)]
    return {login: f"{login}@{DOMAIN}" for login in logins}


def for_inbound(
    config: Inbound, site: Path, addresses: Sequence[str], *, port: int, tls_port: int
) -> Inbound:
    """An inbound server at these addresses, with its Maildirs in `site`."""
    return replace(
        config,
        listen=_listen(addresses, port, tls_port if config.listen.smtps else None),
        tls=_tls(site),
        local=Local(
            users=site / "users",
            maildir=PathTemplate(site / "mail" / "{login}"),
            separator="+",
            sync=config.local.sync,
        ),
        log=_log(site),
    )


def for_outbound(
    config: Outbound, site: Path, address: str, *, port: int, tls_port: int, relay_port: int
) -> Outbound:
    """An outbound server whose mail goes to hosts on loopback, all at one port."""
    listen = _listen([address], port, tls_port if config.listen.smtps else None)
    return replace(
        config,
        postmaster=None,
        listen=OutboundListen(smtp=listen.smtp, smtps=listen.smtps),
        tls=_tls(site) if config.tls.certificate is not None else TLS(),
        queue=Queue(directory=site / "queue"),
        relay=_relay(config.relay, relay_port),
        schedule=_schedule(config.schedule),
        log=_log(site),
    )


def write_users(path: Path, addresses: Mapping[str, str]) -> None:
    """Write the user map."""
    path.write_text("".join(f"{login} : {address}\n" for login, address in addresses.items()))


def _listen(addresses: Sequence[str], port: int, tls_port: int | None) -> Listen:
    def at(port: int) -> tuple[Address, ...]:
        return tuple(Address.parse(f"{address}:{port}") for address in addresses)

    return Listen(smtp=at(port), smtps=at(tls_port) if tls_port is not None else ())


def _tls(site: Path) -> TLS:
    """A pair of its own, which the server makes: the real key is nobody's business here."""
    return TLS(certificate=site / "tls" / "cert.pem", key=site / "tls" / "key.pem")


def _log(site: Path) -> LogFile:
    return LogFile(format="json", file=site / "server.log")


def _relay(relay: Relay, port: int) -> Relay:
    """Nothing leaves this machine: no smart host, and a name server that is not there."""
    return replace(
        relay,
        port=port,
        nameserver=(Address.parse(f"127.0.0.1:{port}"),),
        loopback=True,
        host=None,
        credentials=None,
        rate=0,
        back_off=Seconds.parse("200 ms"),
        back_off_most=Seconds.parse("2 s"),
    )


def _schedule(schedule: Schedule) -> Schedule:
    """Soon, and for long enough: what is never taken is in the queue to the end."""
    return replace(
        schedule,
        retries=tuple(Seconds.parse(text) for text in _RETRIES),
        expire=Seconds.parse("5 d"),
        expire_bounce=Seconds.parse("5 d"),
        delay_notice=SecondsOrOff.parse("0 s"),
    )
