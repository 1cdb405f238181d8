"""What senders are told, as it lies in their Maildirs: bounces, delays and deliveries (RFC 3464).

Notices go through the queue to the inbound server of home.test, as any mail does. Each test has a
sender of its own, whose login is the local-part of the address.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage, Message

import pytest

from tests.delivery.hosts import EXTENSIONS, Behaviour, Host
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import outcome, outcomes, submit, views
from tests.running.program import PATIENCE, Event, Program, eventually

SENDERS = ("ann", "ben", "cid", "dan", "eve", "fay", "gil", "hal", "ida", "postmaster")

HOSTILE = (
    b"550-5.1.1 \x1b[2Jno such user\xe2\x80\xae\r\n"
    b"550-5.1.1 --boundary--\r\n550-5.1.1 Final-Recipient: rfc822; x@y\r\n550 5.1.1 \xff.\r\n"
)
HOSTS: dict[str, tuple[dict[str, Behaviour], tuple[str, ...]]] = {
    "polite": ({}, EXTENSIONS),
    "dsn": ({}, (*EXTENSIONS, "DSN")),
    "rcpt": ({"RCPT": b"550 5.1.1 no such user\r\n"}, EXTENSIONS),
    "dot": ({".": b"554 5.6.0 looks like spam\r\n"}, EXTENSIONS),
    "hostile": ({"RCPT": HOSTILE}, EXTENSIONS),
    "never": ({"RCPT": b"451 4.3.0 not now\r\n"}, EXTENSIONS),
    "late": ({"RCPT": b"451 4.3.0 not yet\r\n"}, EXTENSIONS),
}
"""By domain: what the host says, and what it offers."""

SOON = {
    "retries": ["300 ms"],
    "expire": "2500 ms",
    "expire_bounce": "1500 ms",
    "delay_notice": "1 s",
}


@dataclass(slots=True)
class Site:
    """Two servers that relay, one of them in a hurry; the home of the senders; the other hosts."""

    patient: Program
    hasty: Program
    home: Program
    hosts: dict[str, Host] = field(default_factory=dict)

    def told(self, sender: str, *, notices: int = 1) -> list[Notice]:
        """Wait for so many notices to a sender."""
        eventually(lambda: len(self._notices(sender)) >= notices, what=f"told to {sender}")
        found = self._notices(sender)
        assert len(found) == notices
        return [Notice(octets) for octets in found]

    def _notices(self, sender: str) -> list[bytes]:
        stored = self.home.stored(sender)
        return [octets for octets in stored if octets.startswith(b"Return-Path: <>\n")]


class Notice:
    """A report as a mail reader takes it apart."""

    def __init__(self, octets: bytes) -> None:
        message = message_from_bytes(octets, policy=policy.default)
        assert isinstance(message, EmailMessage)
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        assert not [part.defects for part in message.walk() if part.defects]
        assert message["Return-Path"] == "<>"
        assert message["Auto-Submitted"] == "auto-replied"
        self.message = message
        text, status, self.original = message.iter_parts()
        self.text = " ".join(text.get_content().split())
        groups = [part for part in status.walk() if part.get_content_type() == "text/plain"]
        self.about, *self.recipients = groups

    def of(self, recipient: str) -> Message:
        """The fields about a recipient."""
        (found,) = (
            each for each in self.recipients if each["Final-Recipient"].endswith(f";{recipient}")
        )
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("notices")
    internet = Internet()
    at_home = internet.address()
    internet.domain("home", at_home)
    home = Program.inbound(directory / "home")
    (home.directory / "users").write_text(
        "".join(f"{name} : {name}@home.test\n" for name in SENDERS)
    )
    home.reconfigure(listen={"smtp": [f"{at_home}:{internet.port}"], "smtps": []})
    with ExitStack() as stack:
        hosts = {}
        for name, (replies, extensions) in HOSTS.items():
            address = internet.address()
            internet.domain(name, address)
            host = Host(dict(replies), extensions, address=address, port=internet.port)
            hosts[name] = stack.enter_context(host)
        names = stack.enter_context(internet.name_server(directory))
        patient = outbound(directory / "out", internet, names, postmaster="postmaster@home.test")
        hasty = outbound(
            directory / "hasty", internet, names, schedule=SOON, relay={"back_off": "100 ms"}
        )
        for server in (home, patient, hasty):
            stack.enter_context(server)
        yield Site(patient, hasty, home, hosts)
    assert "Traceback" not in patient.log_text() + hasty.log_text()


def failed(server: Program, recipient: str) -> Event:
    end = outcome(server, recipient)
    assert end["event"] == "failed"
    return end


def test_recipient_that_was_refused(site: Site) -> None:
    id = submit(site.patient, "bob@rcpt.test", sender="ann@home.test")
    (notice,) = site.told("ann")
    assert notice.message["To"] == "ann@home.test"
    assert notice.message["From"].addresses[0].addr_spec == "postmaster@out.example.org"
    assert notice.message["Subject"] == "Not delivered: your message to bob@rcpt.test"
    assert notice.about["Reporting-MTA"] == "dns; out.example.org"
    fields = notice.of("bob@rcpt.test")
    assert fields["Action"] == "failed"
    assert fields["Status"] == "5.1.1"
    assert fields["Remote-MTA"] == "dns; mx1-rcpt.test"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert "could not be delivered to bob@rcpt.test" in notice.text
    assert "mx1-rcpt.test said: 550 5.1.1 no such user" in notice.text
    assert "What to do: Check the part of the address before the @" in notice.text
    assert notice.original.get_content_type() == "message/rfc822"
    original = notice.original.get_content()
    assert original["Subject"] == "hello"
    assert original.get_content() == "Hello\n"
    assert id in original["Received"]
    assert views(site.patient, sender="ann@home.test") == []


def test_message_that_was_refused_is_told_of_once_for_all(site: Site) -> None:
    recipients = ["bob@dot.test", "carol@dot.test"]
    submit(site.patient, *recipients, sender="ben@home.test")
    (notice,) = site.told("ben")
    assert len(notice.recipients) == 2
    for recipient in recipients:
        assert notice.of(recipient)["Status"] == "5.6.0"
        assert f"<{recipient}>" in notice.text
    assert "554 5.6.0 looks like spam" in notice.text
    assert site.hosts["dot"].stored == []


def test_domain_that_does_not_exist(site: Site) -> None:
    submit(site.patient, "bob@nowhere.test", sender="cid@home.test")
    (notice,) = site.told("cid")
    fields = notice.of("bob@nowhere.test")
    assert fields["Status"] == "5.1.2"
    assert fields["Remote-MTA"] is None
    assert fields["Diagnostic-Code"] == "x-pfsmtp; domain nowhere.test does not exist"
    assert "Check the part of the address after the @" in notice.text


def test_rfc3461_what_the_sender_asked_for_is_in_the_notice(site: Site) -> None:
    submit(
        site.patient,
        "bob@rcpt.test",
        sender="dan@home.test",
        options=["RET=HDRS", "ENVID=my+2Bid"],
        wishes=["NOTIFY=FAILURE", "ORCPT=rfc822;robert+40else.test"],
    )
    (notice,) = site.told("dan")
    assert notice.about["Original-Envelope-Id"] == "my+id"
    assert notice.of("bob@rcpt.test")["Original-Recipient"] == "rfc822;robert@else.test"
    assert notice.original.get_content_type() == "text/rfc822-headers"
    assert "Subject: hello" in notice.original.get_content()
    assert "Hello" not in notice.original.get_content()


def test_what_a_remote_says_ends_no_field_and_no_part(site: Site) -> None:
    submit(site.patient, "bob@hostile.test", sender="eve@home.test")
    (notice,) = site.told("eve")
    (fields,) = notice.recipients
    assert fields["Final-Recipient"] == "rfc822;bob@hostile.test"
    assert "\x1b" not in notice.text
    assert "\u202e" not in notice.text
    assert "550-5.1.1 [2Jno such user" in notice.text
    assert "550-5.1.1 --boundary--" in notice.text


def test_expired_message_is_told_late_and_bounced_with_what_was_said_last(site: Site) -> None:
    submit(site.hasty, "bob@never.test", sender="fay@home.test")
    delayed, bounce = site.told("fay", notices=2)
    fields = delayed.of("bob@never.test")
    assert delayed.message["Subject"] == "Delayed: your message to bob@never.test"
    assert fields["Action"] == "delayed"
    assert fields["Status"] == "4.3.0"
    assert fields["Will-Retry-Until"]
    assert "goes on trying" in delayed.text
    assert "451 4.3.0 not now" in delayed.text
    fields = bounce.of("bob@never.test")
    assert fields["Action"] == "failed"
    assert fields["Status"] == "5.4.7"
    assert fields["Diagnostic-Code"] == "smtp; 451 4.3.0 not now"
    assert "It will not be tried again." in bounce.text
    assert views(site.hasty, sender="fay@home.test") == []


def test_delayed_message_that_arrives_is_told_of_once(site: Site) -> None:
    host = site.hosts["late"]
    submit(site.hasty, "bob@late.test", sender="gil@home.test")
    site.told("gil")
    assert isinstance(host.replies, dict)
    host.replies.clear()
    eventually(lambda: len(host.stored) == 1, what="the message")
    eventually(lambda: views(site.hasty, sender="gil@home.test") == [])
    (notice,) = site.told("gil")
    assert notice.of("bob@late.test")["Action"] == "delayed"


def test_rfc3461_success_is_told_where_the_remote_does_not(site: Site) -> None:
    recipients = ["bob@polite.test", "bob@dsn.test"]
    submit(
        site.patient,
        *recipients,
        sender="hal@home.test",
        options=["ENVID=abc"],
        wishes=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;x+2Bz@y.test"],
    )
    (notice,) = site.told("hal")
    assert notice.message["Subject"] == "Passed on: your message to bob@polite.test"
    assert notice.of("bob@polite.test")["Action"] == "relayed"
    assert notice.of("bob@polite.test")["Status"] == "2.0.0"
    assert notice.original.get_content_type() == "text/rfc822-headers"
    assert outcome(site.patient, "bob@dsn.test")["event"] == "delivered"
    (passed_on,) = site.hosts["dsn"].stored
    assert b" ENVID=abc" in passed_on.sender
    assert b" ORCPT=rfc822;x+2Bz@y.test" in passed_on.recipients[0]
    assert b"SUCCESS" in passed_on.recipients[0]


def test_o5_nobody_is_told_who_does_not_want_it_and_no_null_path(site: Site) -> None:
    submit(site.hasty, "ida@rcpt.test", sender="ida@home.test", wishes=["NOTIFY=NEVER"])
    submit(site.hasty, "ida@polite.test", sender="ida@home.test")
    submit(site.hasty, "null@rcpt.test", sender="")
    submit(site.hasty, "null@never.test", sender="")
    for recipient in ("ida@rcpt.test", "null@rcpt.test"):
        assert failed(site.hasty, recipient)["told"] is False
    assert outcome(site.hasty, "ida@polite.test")["event"] == "delivered"
    eventually(lambda: views(site.hasty, recipient="null@never.test") == [])
    # It is recorded first, and logged then.
    eventually(lambda: outcomes(site.hasty, "null@never.test")[-1]["event"] != "deferred")
    *deferred, end = outcomes(site.hasty, "null@never.test")
    assert deferred
    assert (end["event"], end["told"]) == ("failed", False)
    told = [event["recipients"] for event in site.hasty.events("notice-queued")]
    assert not [each for each in told if set(each) & {"ida@rcpt.test", "null@never.test"}]
    assert site.home.stored("ida") == []


def test_bounce_that_bounces_goes_to_the_postmaster(site: Site) -> None:
    submit(site.patient, "bob@rcpt.test", sender="nobody@home.test")
    (notice,) = site.told("postmaster")
    assert notice.of("nobody@home.test")["Status"] == "5.1.1"
    assert "You get this as postmaster" in notice.text
    bounce = notice.original.get_content()
    assert bounce["Subject"] == "Not delivered: your message to bob@rcpt.test"
    assert views(site.patient, sender="<>") == []


def test_rfc5321_4_5_1_postmaster_needs_no_domain(site: Site) -> None:
    path = b"Return-Path: <ann@home.test>\nDelivered-To: postmaster@home.test\n"
    submit(site.patient, "PostMaster", sender="ann@home.test")
    eventually(lambda: any(each.startswith(path) for each in site.home.stored("postmaster")))
    with smtplib.SMTP("127.0.0.1", site.hasty.port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
        client.mail("ann@home.test")
        # Nobody is configured there.
        assert client.rcpt("postmaster")[0] == 550
