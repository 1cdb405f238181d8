"""The dialogue where a script cannot tell it: draining, failures of the store, what is left."""

from __future__ import annotations

import pytest

from pfsmtp.config import Limits, Octets
from pfsmtp.smtp.envelope import Encryption
from pfsmtp.smtp.errors import PermanentFailure, TransientFailure
from pfsmtp.smtp.server import Dialogue, Need
from tests.smtp.fakes import FakeStore, make_dialogue


def say(dialogue: Dialogue, *lines: str) -> list[str]:
    """Send lines, and return the codes and statuses that were answered."""
    dialogue.input.feed("".join(f"{line}\r\n" for line in lines).encode())
    dialogue.advance()
    return [line[:9] for line in dialogue.take_output().decode().splitlines()]


def begin(dialogue: Dialogue) -> None:
    say(dialogue, "HELO client", "MAIL FROM:<a@example.net>", "RCPT TO:<alice@example.org>")


def test_draining_ends_the_dialogue_behind_the_transaction_that_is_under_way() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store)
    begin(dialogue)
    dialogue.draining = True
    assert not dialogue.is_between_transactions()
    assert say(dialogue, "DATA", "a", ".") == ["354 Send ", "250 2.0.0"]
    assert len(store.messages) == 1
    assert dialogue.is_between_transactions()
    assert say(dialogue, "MAIL FROM:<a@example.net>") == ["421 4.3.2"]


def test_draining_lets_who_has_just_come_send_a_first_message() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store)
    dialogue.draining = True
    begin(dialogue)
    assert say(dialogue, "DATA", ".", "NOOP") == ["354 Send ", "250 2.0.0", "421 4.3.2"]
    assert len(store.messages) == 1


def test_draining_still_says_goodbye_to_quit() -> None:
    dialogue = make_dialogue()
    dialogue.draining = True
    assert say(dialogue, "QUIT") == ["221 2.0.0"]


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (TransientFailure(3, 1, "full"), "452 4.3.1"),
        (TransientFailure(2, 2, "quota"), "452 4.2.2"),
        (TransientFailure(3, 0, "broken"), "451 4.3.0"),
        (PermanentFailure(3, 4, "large"), "552 5.3.4"),
        (PermanentFailure(7, 1, "no"), "554 5.7.1"),
    ],
)
@pytest.mark.parametrize("step", ["begin_fails", "write_fails", "commit_fails"])
def test_i10_failure_of_the_store_is_answered_and_leaves_the_dialogue_in_step(
    step: str, failure: PermanentFailure | TransientFailure, answer: str
) -> None:
    store = FakeStore()
    dialogue = make_dialogue(store)
    begin(dialogue)
    setattr(store, step, failure)
    if step == "begin_fails":
        assert say(dialogue, "DATA") == [answer]
    else:
        assert say(dialogue, "DATA", "NOOP", "QUIT", ".") == ["354 Send ", answer]
    assert store.open == 0
    setattr(store, step, None)
    say(dialogue, "RSET")
    begin(dialogue)
    assert say(dialogue, "DATA", "text", ".") == ["354 Send ", "250 2.0.0"]
    assert [message.octets for message in store.messages] == [b"text\n"]


def test_rfc3030_2_chunk_that_the_store_refuses_is_read_and_ends_the_transaction() -> None:
    store = FakeStore(begin_fails=TransientFailure(3, 0, "broken"))
    dialogue = make_dialogue(store)
    begin(dialogue)
    dialogue.input.feed(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")
    dialogue.advance()
    assert dialogue.take_output().startswith(b"451 4.3.0 broken\r\n250 ")
    store.begin_fails = None
    dialogue.input.feed(b"BDAT 5 LAST\r\nrest\n")
    dialogue.advance()
    assert dialogue.take_output().startswith(b"503 "), "not without its beginning"
    assert store.messages == []


def test_size_that_does_not_fit_on_the_disk_is_refused_at_mail() -> None:
    store = FakeStore(free=1000)
    dialogue = make_dialogue(store)
    say(dialogue, "EHLO client")
    assert say(dialogue, "MAIL FROM:<a@example.net> SIZE=1001") == ["452 4.3.1"]
    assert say(dialogue, "MAIL FROM:<a@example.net> SIZE=1000") == ["250 2.1.0"]


def test_message_that_is_not_ended_leaves_nothing_open() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store)
    begin(dialogue)
    say(dialogue, "BDAT 2", "BDAT 9999")
    assert store.open == 1
    dialogue.close()
    assert store.open == 0
    assert store.messages == []


def test_message_over_the_limit_is_not_kept_beyond_it() -> None:
    store = FakeStore()
    limits = Limits(message_size=Octets(1000))
    dialogue = make_dialogue(store, limits=limits)
    begin(dialogue)
    say(dialogue, "DATA")
    for _ in range(100):
        assert say(dialogue, "x" * 100) == []
        assert dialogue.session.incoming is not None
    assert store.open == 0, "the intake was aborted long before the end"
    assert say(dialogue, ".") == ["552 5.3.4"]


def test_errors_are_forgiven_once_a_message_is_accepted_and_slow_before() -> None:
    dialogue = make_dialogue(limits=Limits(errors_slow=2, errors_close=4))
    say(dialogue, "X", "X")
    assert dialogue.pause() > 0
    begin(dialogue)
    say(dialogue, "DATA", ".")
    assert dialogue.pause() == 0


@pytest.mark.parametrize("command", ["NOOP", "RSET", "HELP", "EHLO client", "HELO client"])
def test_commands_that_bring_no_mail_are_slowed_and_then_end_the_dialogue(command: str) -> None:
    dialogue = make_dialogue(limits=Limits(idle_commands=3, errors_slow=2, errors_close=4))
    for _ in range(4):
        assert say(dialogue, command)[-1][:1] == "2"
        assert dialogue.pause() == 0
    for _ in range(2):
        assert say(dialogue, command)[-1][:1] == "2"
        assert dialogue.pause() > 0
    dialogue.input.feed(f"{command}\r\n".encode())
    assert dialogue.advance() is Need.CLOSE
    assert dialogue.take_output().startswith(b"421 4.7.0 Too many commands that bring no mail")


def test_chunks_of_nothing_bring_no_mail() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store, limits=Limits(idle_commands=3, errors_slow=1, errors_close=1))
    begin(dialogue)
    assert say(dialogue, *["BDAT 0"] * 3) == ["250 2.0.0"] * 2 + ["421 4.7.0"]
    dialogue.close()
    assert (store.messages, store.open) == ([], 0)


def test_commands_that_bring_no_mail_are_forgiven_once_a_message_is_accepted() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store, limits=Limits(idle_commands=3, errors_slow=1, errors_close=1))
    for _ in range(4):
        begin(dialogue)
        assert say(dialogue, "NOOP", "RSET") == ["250 2.0.0"] * 2
        say(dialogue, "MAIL FROM:<a@example.net>", "RCPT TO:<alice@example.org>")
        assert say(dialogue, "DATA", ".") == ["354 Send ", "250 2.0.0"]
    assert len(store.messages) == 4
    assert say(dialogue, *["NOOP"] * 4) == ["250 2.0.0"] * 3 + ["421 4.7.0"]


def test_million_commands_are_answered_a_hundred_at_a_time() -> None:
    dialogue = make_dialogue(limits=Limits(idle_commands=1_000_000))
    dialogue.input.feed(b"NOOP\r\n" * 100_000)
    rounds = 0
    while dialogue.advance() is Need.SEND:
        assert dialogue.take_output().count(b"\r\n") == 100
        rounds += 1
    assert rounds == 1000


def test_rfc2920_3_1_message_behind_a_refused_data_is_not_run() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store)
    begun = ("HELO client", "MAIL FROM:<a@example.net>", "RCPT TO:<nobody@example.com>", "DATA")
    body = ("RSET", "MAIL FROM:<a@example.net>", "RCPT TO:<alice@example.org>", "DATA", "a", ".")
    dialogue.input.feed("".join(f"{line}\r\n" for line in (*begun, *body)).encode())
    assert dialogue.advance() is Need.CLOSE
    assert dialogue.take_output().splitlines()[-1][:9] == b"554 5.5.1"
    assert store.messages == []


def test_rfc3207_6_octets_behind_starttls_end_the_dialogue_and_are_not_run() -> None:
    store = FakeStore()
    dialogue = make_dialogue(store)
    say(dialogue, "EHLO client")
    dialogue.input.feed(b"STARTTLS\r\nRSET\r\n")
    assert dialogue.advance() is Need.CLOSE
    assert dialogue.take_output().startswith(b"554 5.5.1")


def test_rfc5321_4_4_protocol_of_the_origin_is_the_keyword_of_rfc3848() -> None:
    store = FakeStore()
    for hello, tls, parameters, keyword in (
        ("HELO c", False, "", "SMTP"),
        ("EHLO c", False, "", "ESMTP"),
        ("EHLO c", True, "", "ESMTPS"),
        ("EHLO c", True, " SMTPUTF8", "UTF8SMTPS"),
    ):
        dialogue = make_dialogue(store)
        if tls:
            dialogue.secured(Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
        say(dialogue, hello, f"MAIL FROM:<a@example.net>{parameters}")
        say(dialogue, "RCPT TO:<alice@example.org>", "DATA", ".")
        assert store.messages[-1].origin.protocol == keyword
        assert store.messages[-1].origin.hello == "c"
