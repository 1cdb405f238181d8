"""The command line, as programs are known to use it."""

from __future__ import annotations

import os

import pytest

from pfsmtp.sendmail.failure import Failure
from pfsmtp.sendmail.options import Options, parse


def parsed(*arguments: str) -> Options:
    return parse(["/usr/sbin/sendmail", *arguments])


def test_nothing_said_is_a_message_that_a_dot_ends() -> None:
    options = parsed("bob@example.org")
    assert options.mode == "submit"
    assert options.recipients == ["bob@example.org"]
    assert options.sender is None
    assert options.dot_ends
    assert not options.recipients_in_header


@pytest.mark.parametrize(
    ("words", "recipients"),
    [
        ("-t -i", []),  # PHP
        ("-ti", []),
        ("-i -FCronDaemon -B8BITMIME -oem root", ["root"]),  # cron
        ("-FCronDaemon -odi -oem -oi -or0s root", ["root"]),
        ("-oem -oi -f a@b -N failure -R hdrs -- bob@x carol@y", ["bob@x", "carol@y"]),  # mutt
        ("-i -f a@b bob@x", ["bob@x"]),  # git send-email
        ("-oi -oem -odb -t", []),
        ("-G -i -f a@b -- -dash@x", ["-dash@x"]),
        ("-O DeliveryMode=b -o 7 -X /tmp/log -p ESMTP -h 3 bob", ["bob"]),
        ("-m -n -U -x -d0.1 -A m -L tag bob", ["bob"]),
        ("- bob", ["-", "bob"]),
    ],
)
def test_what_programs_say_is_taken(words: str, recipients: list[str]) -> None:
    assert parsed(*words.split()).recipients == recipients


@pytest.mark.parametrize("words", [["-fa@b"], ["-f", "a@b"], ["-r", "a@b"], ["-ifa@b"]])
def test_the_sender_may_follow_at_once_or_apart(words: list[str]) -> None:
    assert parsed(*words, "bob").sender == "a@b"


def test_an_empty_sender_is_the_null_path() -> None:
    assert parsed("-f", "", "bob").sender == ""


@pytest.mark.parametrize("word", ["-i", "-oi", "-ti", "-it"])
def test_i_lets_a_dot_stand(word: str) -> None:
    assert not parsed(word, "bob").dot_ends


@pytest.mark.parametrize("word", ["-v", "-ov"])
def test_v_is_verbose(word: str) -> None:
    assert parsed(word, "bob").verbose


def test_dsn_options_are_read() -> None:
    options = parsed("-N", "success,Delay", "-Rhdrs", "-V", "an id", "-B", "8bitmime", "bob")
    assert options.notify == "SUCCESS,DELAY"
    assert options.returning == "HDRS"
    assert options.envelope_id == "an id"
    assert options.eight_bit
    assert parsed("-Nnever").notify == "NEVER"


@pytest.mark.parametrize(
    ("name", "words", "mode", "run"),
    [
        ("sendmail", "-bm", "submit", ""),
        ("sendmail", "-bs", "smtp", ""),
        ("sendmail", "-bp", "list", ""),
        ("sendmail", "-bi", "aliases", ""),
        ("sendmail", "-I", "aliases", ""),
        ("/usr/bin/mailq", "", "list", ""),
        ("/usr/bin/newaliases", "", "aliases", ""),
        ("sendmail", "-q", "run", ""),
        ("sendmail", "-q30m", "run", "30m"),
        ("sendmail", "-qRexample.org", "run", "Rexample.org"),
    ],
)
def test_modes(name: str, words: str, mode: str, run: str) -> None:
    options = parse([name, *words.split()])
    assert (options.mode, options.run) == (mode, run)


@pytest.mark.parametrize(
    "words",
    ["-f", "-F", "-bd", "-bv", "-y", "-tz", "-N sometimes", "-N never,success", "-R all", "-N ,"],
)
def test_what_is_not_done_here_is_a_usage_error(words: str) -> None:
    with pytest.raises(Failure) as failure:
        parsed(*words.split())
    assert failure.value.status == os.EX_USAGE


def test_the_configuration_is_named_by_either_letter() -> None:
    assert parsed("-C", "x.toml").config == "x.toml"
    assert parsed("-c", "x.toml").config == "x.toml"
