"""The argument of MAIL and RCPT read apart: what `ext/path.pyx` offers."""

class PathSyntaxError(ValueError):
    """The argument of MAIL or RCPT holds no path; the text, for the client, says what is wrong."""

def parse_path(argument: bytes, keyword: bytes, /) -> tuple[str, str, bytes]:
    """Read `FROM:<path> parameters` apart, or `TO:…`, as `keyword` says (RFC 5321 §4.1.2).

    Returns the local-part (unquoted), the domain, and the parameters. `<>` gives ("", "", …); a
    local-part alone has the domain "". Source routes are dropped. Raises PathSyntaxError.
    """
