"""Runs a program as systemd does that has opened its sockets: `activate.py FD:NAME,… PROGRAM …`."""

import os
import sys

FIRST = 3  # SD_LISTEN_FDS_START


def main(sockets: str, *command: str) -> None:
    pairs = [item.partition(":") for item in sockets.split(",")]
    # First out of the way of where they are to be.
    copies = [os.dup2(int(fd), 100 + index) for index, (fd, _, _) in enumerate(pairs)]
    for index, copy in enumerate(copies):
        os.dup2(copy, FIRST + index)
        os.close(copy)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(pairs))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for _, _, name in pairs)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
