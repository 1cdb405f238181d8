"""From the command line to the exit status: `pfsmtp -c FILE crashtest …`.

0: nothing is lost. 1: something is, or is there twice, or in part; the directory is kept, with
configuration, log, mail and figures. 2: it could not be run, or it showed nothing.

Ctrl-C, or TERM, ends it early with a verdict on what was sent so far; a second one gives it up.
"""

from __future__ import annotations

import signal
import ssl
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import SystemRandom
from types import FrameType

from pfsmtp import config as configuration
from pfsmtp.config import Config, Inbound
from pfsmtp.crashtest import report
from pfsmtp.crashtest.account import Account
from pfsmtp.crashtest.inbound import InboundScene, InboundServer
from pfsmtp.crashtest.outbound import OutboundScene, RelayedMaildirs
from pfsmtp.crashtest.remote import Remote
from pfsmtp.crashtest.sink import ADDRESSES, Sink
from pfsmtp.crashtest.site import CannotRun, Site, free_port
from pfsmtp.crashtest.trial import Plan, Trial
from pfsmtp.tls import TLSError, ensure_self_signed

_LOST, _CANNOT = 1, 2


def main(path: Path, options: Namespace) -> int:
    """Run the test of the configuration at `path`, as `options` say."""
    try:
        config = _load(path)
        with _interrupts() as interrupted, ExitStack() as stack:
            return _Run(config, options, stack).run(interrupted)
    except (CannotRun, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("given up; nothing is known")


class _Run:
    """One test, from its directories to its verdict."""

    def __init__(self, config: Config, options: Namespace, stack: ExitStack) -> None:
        self._config = config
        self._options = options
        self._stack = stack
        self._sites: list[Site] = []
        seed = options.seed if options.seed is not None else SystemRandom().getrandbits(32)
        self._plan = Plan(options.seconds, options.every, options.clients, seed)

    def run(self, interrupted: threading.Event) -> int:
        """Raises CannotRun, OSError, KeyboardInterrupt."""
        options, plan = self._options, self._plan
        kept = True
        try:
            scene = self._scene()
            line = report.Line(sys.stderr, time.monotonic)
            trial = Trial(scene, plan, interrupted=interrupted, show=line.show)
            try:
                account = trial.run()
            finally:
                line.end()
            seconds = time.monotonic() - trial.progress.began
            kept = self._options.keep or bool(account.faults)
            self._tell(account, seconds, kept)
        except (CannotRun, OSError, KeyboardInterrupt):
            kept = options.keep
            raise
        finally:
            self._stack.close()
            if not kept:
                for site in self._sites:
                    site.remove()
        if account.faults:
            return _LOST
        if not account.figures["acknowledged"]:
            raise CannotRun("no message was acknowledged, so nothing is shown; say more with --for")
        return 0

    def _scene(self) -> InboundScene | OutboundScene:
        config, plan, space = self._config, self._plan, self._options.space
        site = self._make_site(config)
        scene: InboundScene | OutboundScene
        if isinstance(config, Inbound):
            if self._options.into is not None:
                raise CannotRun("--into is for the outbound server")
            scene = InboundScene(config, site.path, run=plan.run, space=space)
        else:
            scene = OutboundScene(config, site.path, self._remote(site))
        self._stack.callback(scene.close)
        return scene

    def _remote(self, site: Site) -> Remote:
        into = self._options.into
        if into is None:
            return Sink(free_port(SystemRandom(), ADDRESSES), self._plan.run, _tls(site.path))
        config = _load(into)
        if not isinstance(config, Inbound):
            raise CannotRun(f'{into}: role = "{config.role}"; name an inbound server with --into')
        place = self._make_site(config).path
        return RelayedMaildirs(
            InboundServer(
                config,
                place,
                addresses=ADDRESSES,
                run=self._plan.run,
                space=self._options.space,
            )
        )

    def _make_site(self, config: Config) -> Site:
        site = Site(config, self._options.directory, space=self._options.space)
        self._sites.append(site)
        return site

    def _tell(self, account: Account, seconds: float, kept: bool) -> None:
        role = self._config.role
        paths = [str(site.path) for site in self._sites]
        where = ", ".join(paths) if kept else None
        figures = report.as_json(account, self._plan, role=role, seconds=seconds, kept=where)
        if self._options.json:
            print(figures)
        else:
            print(report.as_text(account, self._plan, role=role, seconds=seconds))
            if where:
                print(f"Everything is kept in {where}")
        sys.stdout.flush()
        if kept:
            (self._sites[0].path / "figures.json").write_text(figures + "\n")


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """INT and TERM set the event; the second is a KeyboardInterrupt; then they do nothing.

    What was begun is cleared away in any case.
    """
    interrupted = threading.Event()
    given_up = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if given_up.is_set():
            return
        if interrupted.is_set():
            given_up.set()
            raise KeyboardInterrupt
        interrupted.set()

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _load(path: Path) -> Config:
    """Raises CannotRun."""
    try:
        return configuration.load(path)
    except configuration.ConfigError as error:
        raise CannotRun(str(error)) from error


def _tls(site: Path) -> ssl.SSLContext:
    """The remote host's. Raises CannotRun."""
    certificate, key = site / "sink" / "cert.pem", site / "sink" / "key.pem"
    try:
        ensure_self_signed(certificate, key, hostname="sink.crashtest.invalid")
    except TLSError as error:
        raise CannotRun(str(error)) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _fail(text: str) -> int:
    sys.stdout.flush()
    print(f"pfsmtp: {text}", file=sys.stderr)
    return _CANNOT
