"""A configuration file becomes structs, or an error that says what to do about it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pfsmtp.config import ConfigError, Inbound, Outbound, load
from pfsmtp.config.load import machine_name

HEAD = """
role = "{role}"
hostname = "mx.example.org"
"""
INBOUND = (
    HEAD.format(role="inbound")
    + """
[listen]
smtp = ["0.0.0.0:25", "[::]:25"]
[local]
users = "users"
maildir = "../mail/{login}"
"""
)
OUTBOUND = (
    HEAD.format(role="outbound")
    + """
[listen]
smtp = ["127.0.0.1:25"]
[queue]
directory = "../queue"
"""
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "conf" / "pfsmtp.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refusal(write: Write) -> Callable[[str], str]:
    """Load a configuration that is refused and return the words, without the file's name."""

    def refusal(text: str) -> str:
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        name, _, words = str(caught.value).partition(": ")
        assert name == str(path)
        return words

    return refusal


Refusal = Callable[[str], str]


def test_each_role_has_its_own_struct(write: Write) -> None:
    inbound = load(write(INBOUND))
    assert isinstance(inbound, Inbound)
    assert inbound.role == "inbound"
    outbound = load(write(OUTBOUND))
    assert isinstance(outbound, Outbound)
    assert outbound.role == "outbound"


def test_paths_are_relative_to_the_file_not_to_where_the_program_starts(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(INBOUND + '[log]\nfile = "/var/log/mail"\n')
    monkeypatch.chdir(path.parent)
    for name in (path, Path(path.name)):
        config = load(name)
        assert isinstance(config, Inbound)
        assert config.local.users == tmp_path / "conf" / "users"
        assert config.local.maildir == str(tmp_path / "mail" / "{login}")
        assert config.log.file == Path("/var/log/mail")


def test_the_inbound_server_has_a_certificate_when_none_is_named(
    write: Write, tmp_path: Path
) -> None:
    tls = load(write(INBOUND)).tls
    assert tls.certificate == tmp_path / "var" / "tls" / "cert.pem"
    assert tls.key == tmp_path / "var" / "tls" / "key.pem"


def test_the_outbound_server_has_no_certificate_when_none_is_named(write: Write) -> None:
    assert load(write(OUTBOUND)).tls.certificate is None


def test_a_config_cannot_be_changed(write: Write) -> None:
    config = load(write(INBOUND))
    with pytest.raises(AttributeError):
        config.limits.recipients = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "hosts", "full"),
    [
        ("mx", "127.0.1.1 mx.example.org mx\n", "mx.example.org"),
        ("mx", "127.0.0.1 localhost\n127.0.1.1 mx mx.example.org # mail\n", "mx.example.org"),
        ("mx", "127.0.1.1 mail.example.org mx\n", "mx"),
        ("mx", "# 127.0.1.1 mx.example.org mx\n", "mx"),
        ("mx", "", "mx"),
        ("mx.example.net", "127.0.1.1 mx.example.org mx.example.net\n", "mx.example.net"),
    ],
)
def test_the_name_of_the_machine_is_completed_from_etc_hosts(
    name: str, hosts: str, full: str
) -> None:
    assert machine_name(name, hosts) == full


def test_hostname_is_this_machines_by_default(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "mail.example.net")
    assert load(write(INBOUND.replace("hostname", "# hostname"))).hostname == "mail.example.net"


def test_a_machine_without_a_proper_name_needs_a_hostname(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my_machine")
    assert refusal(INBOUND.replace("hostname", "# hostname")) == (
        "hostname: this machine calls itself 'my_machine', which is not a domain"
        '; write hostname = "mx.example.org", or whatever its name is in the DNS'
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        # kinds of value
        (
            '[limits]\nmessage_size = "fifty"',
            "[limits] message_size: 'fifty' is not a size; write e.g. \"50 MiB\"",
        ),
        (
            "[limits]\nrecipients = 0",
            "[limits] recipients: 0 will not do; write a whole number, 1 or more",
        ),
        (
            "[limits]\nhops = 1.5",
            "[limits] hops: 1.5 will not do; write a whole number, 1 or more",
        ),
        (
            "[limits]\nhops = true",
            "[limits] hops: true will not do; write a whole number, 1 or more",
        ),
        ('[log]\nformat = "xml"', '[log] format: \'xml\' will not do; write "logfmt" or "json"'),
        ('[log]\nfile = ""', "[log] file: '' is not a path; write e.g. \"../var/name\""),
        (
            '[log]\nfile = "~/log"',
            "[log] file: '~/log': ~ and $ mean nothing here; write the whole path",
        ),
        # unknown keys
        (
            '[limits]\nmesage_size = "5 MiB"',
            "[limits] mesage_size: there is no such key; did you mean message_size?",
        ),
        (
            "[limits]\nprocesses = 4",
            "[limits] processes: there is no such key here; it belongs under [workers]",
        ),
        ("[log]\nx = 1", "[log] x: there is no such key; there are format, file"),
        ("[lokal]", "lokal: there is no such key; did you mean local?"),
        # what belongs to the other server
        ('[queue]\ndirectory = "q"', '[queue]: it is for role = "outbound" only; remove it'),
        ("[relay]\nport = 26", '[relay]: it is for role = "outbound" only; remove it'),
        (
            "[workers]\ndeliverers = 2",
            '[workers] deliverers: it is for role = "outbound" only; remove it',
        ),
        # between keys
        (
            '[tls]\ncertificate = "c"',
            "[tls] certificate: it needs its key; set key too, or remove certificate",
        ),
        (
            '[tls]\nkey = "c"',
            "[tls] key: it needs its certificate; set certificate too, or remove key",
        ),
        (
            '[tls]\ncertificate = "c"\nkey = "k"\n[[tls.more]]\ncertificate = "d"',
            '[tls.more] key, entry 1: it is missing; write text in quotes: key = "…"',
        ),
        (
            "[limits]\nerrors_slow = 21",
            "[limits] errors_slow: 21 is after errors_close; write 20 or less",
        ),
        (
            '[limits]\ncommand = "1 h"',
            "[limits] command: 3600 s is more than a whole session may take"
            '; write "1800 s" or less, or raise session',
        ),
        # TOML itself
        (
            "[limits]\nhops = many",
            "line 11, column 8: Invalid value"
            '; write text in quotes, e.g. hostname = "mx.example.org"',
        ),
        (
            "[limits]\nhops = 1\nhops = 2\n",
            "line 12, column 9: this key was there before; keep one",
        ),
        (
            "[listen]",
            "line 10, column 8: this section was there before; put all its keys in one place",
        ),
        ("[limits\n", "line 10, column 8: Expected ']' at the end of a table declaration"),
    ],
)
def test_inbound_is_refused_in_words(refusal: Refusal, lines: str, words: str) -> None:
    assert refusal(INBOUND + lines) == words


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "[relay]\nloopback = 1",
            "[relay] loopback: 1 will not do; write true or false",
        ),
        (
            '[relay]\nnameserver = "127.0.0.1:53"',
            "[relay] nameserver: '127.0.0.1:53' will not do; write a list, in brackets: "
            "nameserver = [ … ]",
        ),
        (
            '[relay]\nnameserver = ["127.0.0.1:53", "ns:53"]',
            "[relay] nameserver, entry 2: 'ns:53' has no IP address before its port, and names are "
            'not looked up; write e.g. "127.0.0.1:53" or "[::1]:53"',
        ),
        (
            '[relay]\nnameserver = ["127.0.0.1:0"]',
            "[relay] nameserver: '127.0.0.1:0' has no port; write e.g. \"127.0.0.1:53\"",
        ),
        (
            "[relay]\nport = 65536",
            "[relay] port: 65536 will not do; write a whole number from 1 to 65535",
        ),
        (
            '[relay]\ncredentials = "c"',
            "[relay] credentials: they are for a smart host; set host too, or remove credentials",
        ),
        (
            '[relay]\nauthorities = "a"',
            "[relay] authorities: they are for a smart host; set host too, or remove authorities",
        ),
        (
            '[relay]\nback_off = "2 h"',
            '[relay] back_off: 7200 s is more than back_off_most; write "3600 s" or less',
        ),
        (
            "[schedule]\njitter = 2",
            "[schedule] jitter: 2 will not do; write a number from 0 to 0.9",
        ),
        (
            "[schedule]\nretries = []",
            '[schedule] retries: it is empty; write e.g. retries = ["5 min", "1 h"]',
        ),
        (
            '[schedule]\ndelay_notice = "6 d"',
            "[schedule] delay_notice: 518400 s is after the message expires"
            '; write less than expire, or "0 s" for none',
        ),
        (
            '[schedule.timeouts]\nconect = "1 s"',
            "[schedule.timeouts] conect: there is no such key; did you mean connect?",
        ),
        ('[local]\nusers = "users"', '[local]: it is for role = "inbound" only; remove it'),
    ],
)
def test_outbound_is_refused_in_words(refusal: Refusal, lines: str, words: str) -> None:
    assert refusal(OUTBOUND + lines) == words


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'role = "inbound"',
            "",
            'role: it is missing; write role = "inbound" or role = "outbound"',
        ),
        (
            'role = "inbound"',
            'role = "inbund"',
            'role: \'inbund\' is not a role; write role = "inbound" or role = "outbound"',
        ),
        (
            'role = "inbound"',
            'role = ["inbound"]',
            'role: [\'inbound\'] is not a role; write role = "inbound" or role = "outbound"',
        ),
        (
            'hostname = "mx.example.org"',
            'hostname = "mx_1"',
            "hostname: 'mx_1' is neither a domain nor an address literal"
            '; write e.g. "mx.example.org" or "[192.0.2.1]"',
        ),
        (
            'hostname = "mx.example.org"',
            'group = "mail"',
            "group: it needs a user to go with it; set user too, or remove group",
        ),
        (
            'hostname = "mx.example.org"',
            "limits = 5",
            "[limits]: 5 will not do; it is a section; write [limits], and its keys in the lines "
            "below",
        ),
        (
            'hostname = "mx.example.org"',
            "tls = 5",
            "[tls]: 5 will not do; it is a section; write [tls], and its keys in the lines below",
        ),
        (
            'hostname = "mx.example.org"',
            "connections = 5",
            "connections: there is no such key here; it belongs under [workers]",
        ),
        (
            'hostname = "mx.example.org"',
            'postmaster = "me@example.org"',
            'postmaster: it is for role = "outbound" only; remove it',
        ),
        (
            'smtp = ["0.0.0.0:25", "[::]:25"]',
            "",
            '[listen] smtp: there is no address in it; write e.g. smtp = ["127.0.0.1:2525"]',
        ),
        (
            'smtp = ["0.0.0.0:25", "[::]:25"]',
            'smtp = ["127.0.0.1:25"]\nsmtps = ["127.0.0.1:25"]',
            "[listen]: '127.0.0.1:25' is there twice; remove one",
        ),
        (
            'users = "users"',
            "",
            '[local] users: it is missing; write text in quotes: users = "…"',
        ),
        (
            'users = "users"',
            'users = "users"\nseparator = "tag"',
            "[local] separator: 'tag' cannot part a user from a tag"
            '; write one sign such as "+" or "-", or "" for none',
        ),
        (
            '[local]\nusers = "users"\nmaildir = "../mail/{login}"',
            "",
            "[local]: the section is missing; add it",
        ),
        (
            "../mail/{login}",
            "../mail",
            "[local] maildir: '../mail' would be the same for all users"
            '; put {login} where the user\'s name goes, e.g. "../var/mail/{login}"',
        ),
    ],
)
def test_a_changed_line_is_refused_in_words(
    refusal: Refusal, old: str, new: str, words: str
) -> None:
    assert old in INBOUND
    assert refusal(INBOUND.replace(old, new)) == words


@pytest.mark.parametrize("key", ["smtp", "smtps"])
@pytest.mark.parametrize(
    "address", ["0.0.0.0:2526", "[::]:2526", "192.0.2.1:2526", "[::ffff:127.0.0.1]:2526"]
)
def test_outbound_listens_on_loopback_only(refusal: Refusal, key: str, address: str) -> None:
    tls = '\n[tls]\ncertificate = "c"\nkey = "k"\n'
    words = refusal(OUTBOUND.replace("smtp =", f'{key} = ["{address}"] #') + tls)
    assert words.startswith(f"[listen] {key}: '{address}' can be reached from other machines")
    assert words.endswith('; write "127.0.0.1:2526" or "[::1]:2526"')


def test_ports_chosen_by_the_system_are_no_duplicates(write: Write) -> None:
    text = INBOUND.replace("0.0.0.0:25", "127.0.0.1:0").replace("[::]:25", "127.0.0.1:0")
    assert [address.port for address in load(write(text)).listen.smtp] == [0, 0]


def test_tls_from_the_first_octet_needs_a_certificate(refusal: Refusal) -> None:
    words = refusal(OUTBOUND.replace("[listen]", '[listen]\nsmtps = ["127.0.0.1:465"]'))
    assert words == ("[listen] smtps: it needs a certificate; set certificate and key under [tls]")


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("postmaster@example.org", True),
        ("root@[127.0.0.1]", True),
        ("postmaster", False),
        ("@example.org", False),
        ("a b@example.org", False),
        ("a@exa mple.org", False),
        ("<a@example.org>", False),
    ],
)
def test_double_bounces_go_to_an_address(write: Write, address: str, good: bool) -> None:
    path = write(f'postmaster = "{address}"\n' + OUTBOUND)
    if good:
        config = load(path)
        assert isinstance(config, Outbound)
        assert config.postmaster == address
    else:
        with pytest.raises(ConfigError, match="is not an address; write"):
            load(path)


def test_a_file_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/absent: there is no such file; name another with -c"):
        load(tmp_path / "absent")


def test_a_file_that_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r": it cannot be read \(Is a directory\)"):
        load(tmp_path)


def test_a_file_that_is_not_utf_8_is_refused_in_words(write: Write) -> None:
    path = write("")
    path.write_bytes(b'\nhostname = "b\xfccher"\n')
    with pytest.raises(ConfigError, match=r": line 2 is not UTF-8; save the file as UTF-8"):
        load(path)


def test_importing_the_configuration_brings_in_nothing_heavy() -> None:
    heavy = "{'ssl', 'asyncio', 'cryptography', 'dns', 'multiprocessing', 'logging'}"
    code = (
        "import sys, pfsmtp; before = set(sys.modules); import pfsmtp.config;"
        f"print(*(set(sys.modules) - before) & {heavy})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")
