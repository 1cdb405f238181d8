"""From the command line to the exit status: `pfsmtp -c FILE queue …`.

0: done, whatever stderr says. 1: it could not be done, or there is no such message; stderr says
why. Looking changes nothing, works whether or not the server runs, and whoever reads the output may
stop at any time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from pfsmtp import config as configuration
from pfsmtp.config import Outbound
from pfsmtp.mailqueue.entry import Wish
from pfsmtp.operator.output import Output
from pfsmtp.operator.steering import Steering
from pfsmtp.operator.trouble import QueueError, of_system, tell
from pfsmtp.operator.viewing import Viewing
from pfsmtp.smtp.errors import DeliveryFailure


def main(path: Path, options: argparse.Namespace) -> int:
    """Do what `options` say with the queue that the configuration at `path` names."""
    output = Output(sys.stdout, json=options.json)
    try:
        config = _outbound(path)
        try:
            _run(config, options, output)
            output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise of_system(error, config.queue.directory) from error
    except (QueueError, DeliveryFailure) as error:
        return _fail(str(error))
    except BrokenPipeError:
        _write_no_more()
    return 0


def _run(config: Outbound, options: argparse.Namespace, output: Output) -> None:
    now = time.time()
    match options.queue:
        case "list":
            Viewing(config, output, now=now).list(options)
        case "show":
            Viewing(config, output, now=now).show(options)
        case "summary":
            Viewing(config, output, now=now).summarize(options)
        case wish:
            Steering(config, output, now=now).carry_out(Wish(wish), options)


def _outbound(path: Path) -> Outbound:
    """Read the configuration. Raises QueueError."""
    try:
        config = configuration.load(path)
    except configuration.ConfigError as error:
        raise QueueError(str(error)) from error
    if not isinstance(config, Outbound):
        raise QueueError(
            f'{path}: role = "{config.role}" has no queue; name the outbound server\'s file with -c'
        )
    return config


def _fail(text: str) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _write_no_more()
    tell(text)
    return 1


def _write_no_more() -> None:
    """Python would try once more, at its end, to write what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
