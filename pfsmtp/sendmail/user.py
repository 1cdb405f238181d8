"""Who runs sendmail, as the user database and the environment have it."""

from __future__ import annotations

import os
import pwd


class User:
    """Texts are empty where nothing is known."""

    def __init__(
        self, number: int, *, login: str = "", gecos: str = "", name: str = "", logname: str = ""
    ) -> None:
        """`login` and `gecos` are of the user database, `name` and `logname` of the environment."""
        self.number = number
        self._login = login
        self._gecos = gecos
        self._name = name
        self._logname = logname

    @property
    def mailbox(self) -> str:
        """The local-part of its address."""
        return self._login or self._logname or f"uid{self.number}"

    @property
    def full_name(self) -> str:
        # passwd(5): the name goes up to a comma; & stands for the login.
        name = self._gecos.partition(",")[0].replace("&", self._login.capitalize())
        return self._name or name


def this_user() -> User:
    """Look up who runs this process."""
    number = os.getuid()
    name, logname = os.environ.get("NAME", ""), os.environ.get("LOGNAME", "")
    try:
        entry = pwd.getpwuid(number)
    except KeyError:
        return User(number, name=name, logname=logname)
    return User(number, login=entry.pw_name, gecos=entry.pw_gecos, name=name, logname=logname)
