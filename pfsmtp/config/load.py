"""Reads a configuration file and checks it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import msgspec

from pfsmtp.config.schema import Config


class ConfigError(Exception):
    """The configuration cannot be used; the text names file, key and remedy."""


def load(path: str | os.PathLike[str]) -> Config:
    """Read and check a configuration file. Raises ConfigError."""
    base = Path(path).absolute().parent
    with open(path, "rb") as file:
        raw = tomllib.load(file)

    def read(kind: type, value: object) -> object:
        return base / str(value) if kind is Path else kind.parse(value)  # type: ignore[attr-defined]

    try:
        config: Config = msgspec.convert(raw, Config, dec_hook=read)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config
