"""The door to the compiled reader of paths (ext/path.pyx, described in _path.pyi)."""

from pfsmtp.smtp._path import PathSyntaxError, parse_path

__all__ = ["PathSyntaxError", "parse_path"]
