"""The configuration: TOML on disk, frozen structs in the program.

`load` is the only way in; it raises `ConfigError`, whose text is for the operator.
"""

from pfsmtp.config.load import ConfigError, load
from pfsmtp.config.schema import (
    TLS,
    CertificatePair,
    Config,
    Inbound,
    Limits,
    Listen,
    Local,
    LogFile,
    Outbound,
    OutboundListen,
    OutboundWorkers,
    Queue,
    Relay,
    Schedule,
    Timeouts,
    Workers,
)
from pfsmtp.config.units import Address, Host, Hostname, Octets, Seconds, SecondsOrOff

__all__ = [
    "TLS",
    "Address",
    "CertificatePair",
    "Config",
    "ConfigError",
    "Host",
    "Hostname",
    "Inbound",
    "Limits",
    "Listen",
    "Local",
    "LogFile",
    "Octets",
    "Outbound",
    "OutboundListen",
    "OutboundWorkers",
    "Queue",
    "Relay",
    "Schedule",
    "Seconds",
    "SecondsOrOff",
    "Timeouts",
    "Workers",
    "load",
]
