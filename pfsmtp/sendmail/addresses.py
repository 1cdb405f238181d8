"""Lists of addresses, as fields and arguments have them (RFC 5322 §3.4).

All that programs write is taken: names, comments, groups, routes. What is between the brackets, or
left when the comments are gone, is the address; whether it is a good one is for the server to say.
"""

from __future__ import annotations

_OPEN, _CLOSE = "([<", ")]>"


def split_addresses(text: str) -> list[str]:
    """Return the addresses of a list: `Ann <a@x>, b@y (Bob), friends: c@z, d@z;`."""
    found = [_address(part) for part in _parts(text)]
    return [address for address in found if address]


def _parts(text: str) -> list[str]:
    """Cut at commas and at the ends of groups; drop comments and the names of groups."""
    parts, part = [], ""
    for token in _tokens(text):
        if token[0] == "(":
            part += " "
        elif token == ":":
            part = ""
        elif token in (",", ";"):
            parts.append(part)
            part = ""
        else:
            part += token
    return [*parts, part]


def _tokens(text: str) -> list[str]:
    """Cut into quoted strings, comments, literals and addresses in brackets, and single characters.

    One that is not closed goes on to the end.
    """
    tokens = []
    at = 0
    while at < len(text):
        end = _token_end(text, at)
        tokens.append(text[at:end])
        at = end
    return tokens


def _token_end(text: str, at: int) -> int:
    """Return where the token that starts at `at` ends. Comments nest; a backslash escapes."""
    opener = text[at]
    if opener == '"':
        closer = '"'
    elif opener in _OPEN:
        closer = _CLOSE[_OPEN.index(opener)]
    else:
        return at + 1
    depth = 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == closer and depth:
            depth -= 1
            if depth == 0:
                return at + 1
        elif character == opener and (depth == 0 or opener == "("):
            depth += 1
        elif character == '"' and opener == "<":
            at = _token_end(text, at) - 1
        at += 1
    return len(text)


def _address(part: str) -> str:
    """Return what one part of the list is addressed to, "" if nothing."""
    for token in _tokens(part):
        if token[0] == "<":
            part = token.strip("<>")
            # RFC 5321 §4.1.1.3: a source route is not needed.
            if part.startswith("@"):
                part = part.partition(":")[2]
            break
    return part.strip()
