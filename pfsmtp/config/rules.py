"""What must hold between the keys of a configuration, beyond the type of each.

Each rule yields sentences that name key and remedy; the first one is what the operator is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from pfsmtp.config.schema import TLS, Config, Inbound, Limits, Listen, Outbound, Relay, Schedule
from pfsmtp.config.units import is_address_literal, is_domain, quote

_LONGEST_SOCKET = 107  # octets of a path; unix(7)


def faults(config: Config) -> Iterator[str]:
    """Yield what is wrong with a configuration, the most basic first."""
    yield from _listen(config.listen)
    yield from _tls(config.tls, config.listen)
    if config.group is not None and config.user is None:
        yield "group: it needs a user to go with it; set user too, or remove group"
    yield from _limits(config.limits)
    if isinstance(config, Inbound):
        yield from _separator(config.local.separator)
    else:
        yield from _outbound(config)


def _listen(listen: Listen) -> Iterator[str]:
    if not listen.smtp and not listen.smtps:
        yield '[listen] smtp: there is no address in it; write e.g. smtp = ["127.0.0.1:2525"]'
    seen = set()
    for address in chain(listen.smtp, listen.smtps):
        if address in seen and address.port:
            yield f"[listen]: {quote(address)} is there twice; remove one"
        seen.add(address)


def _tls(tls: TLS, listen: Listen) -> Iterator[str]:
    if tls.certificate is None and tls.key is not None:
        yield "[tls] key: it needs its certificate; set certificate too, or remove key"
    if tls.key is None and tls.certificate is not None:
        yield "[tls] certificate: it needs its key; set key too, or remove certificate"
    if tls.certificate is None and tls.more:
        yield "[tls.more]: a first certificate has to come before it; set certificate and key"
    if tls.certificate is None and listen.smtps:
        yield "[listen] smtps: it needs a certificate; set certificate and key under [tls]"


def _limits(limits: Limits) -> Iterator[str]:
    if limits.errors_slow > limits.errors_close:
        yield (
            f"[limits] errors_slow: {limits.errors_slow} is after errors_close"
            f"; write {limits.errors_close} or less"
        )
    for key, seconds in (("command", limits.command), ("data", limits.data)):
        if seconds > limits.session:
            yield (
                f"[limits] {key}: {seconds:g} s is more than a whole session may take"
                f'; write "{limits.session:g} s" or less, or raise session'
            )


def _separator(separator: str) -> Iterator[str]:
    if separator and (len(separator) > 1 or separator not in "!#$%&*+-./=?^_|~"):
        yield (
            f"[local] separator: {quote(separator)} cannot part a user from a tag"
            '; write one sign such as "+" or "-", or "" for none'
        )


def _outbound(config: Outbound) -> Iterator[str]:
    yield from _loopback_only(config.listen)
    yield from _socket(config.listen.sendmail)
    if config.postmaster is not None and not _is_mailbox(config.postmaster):
        yield (
            f"postmaster: {quote(config.postmaster)} is not an address"
            '; write e.g. "postmaster@example.org"'
        )
    yield from _relay(config.relay)
    yield from _schedule(config.schedule)


def _loopback_only(listen: Listen) -> Iterator[str]:
    """Whoever can connect may send to anyone, so nobody outside this machine may connect."""
    for key, addresses in (("smtp", listen.smtp), ("smtps", listen.smtps)):
        for address in addresses:
            if not address.is_loopback:
                yield (
                    f"[listen] {key}: {quote(address)} can be reached from other machines, and the"
                    " outbound server takes mail for anyone"
                    f'; write "127.0.0.1:{address.port}" or "[::1]:{address.port}"'
                )


def _socket(path: Path | None) -> Iterator[str]:
    if path is not None and len(os.fsencode(path)) > _LONGEST_SOCKET:
        yield (
            f"[listen] sendmail: {quote(path)} is too long for the path of a socket"
            f"; choose one of {_LONGEST_SOCKET} octets or less"
        )


def _relay(relay: Relay) -> Iterator[str]:
    for key in ("credentials", "authorities"):
        if getattr(relay, key) is not None and relay.host is None:
            yield f"[relay] {key}: they are for a smart host; set host too, or remove {key}"
    if relay.back_off > relay.back_off_most:
        yield (
            f"[relay] back_off: {relay.back_off:g} s is more than back_off_most"
            f'; write "{relay.back_off_most:g} s" or less'
        )
    for server in relay.nameserver:
        if server.port == 0:
            yield f'[relay] nameserver: {quote(server)} has no port; write e.g. "127.0.0.1:53"'


def _schedule(schedule: Schedule) -> Iterator[str]:
    if not schedule.retries:
        yield '[schedule] retries: it is empty; write e.g. retries = ["5 min", "1 h"]'
    if schedule.delay_notice > schedule.expire:
        yield (
            f"[schedule] delay_notice: {schedule.delay_notice:g} s is after the message expires"
            '; write less than expire, or "0 s" for none'
        )


def _is_mailbox(text: str) -> bool:
    local_part, at, domain = text.rpartition("@")
    has_domain = is_domain(domain) or is_address_literal(domain)
    return bool(at and local_part and has_domain and not set(local_part) & set(' <>@"\\\r\n'))
