"""pfsmtp: a prefork SMTP server, inbound into Maildirs and outbound to the MX hosts."""


def __getattr__(name: str) -> str:
    """Look `__version__` up only when asked: importlib.metadata is slow to import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("pfsmtp")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
