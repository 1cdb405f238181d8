"""Into the Maildirs of this machine.

store        a message store over Maildirs
intake       a message on its way in, until it is in every recipient's `new/`
directories  the directories of Maildirs, made when missing
filesystems  which file system is synced in place of several directories
names        file names that no other delivery has
failures     what an error of the file system means to the client
sweep        old files in `tmp/` removed
"""

from pfsmtp.delivery.maildir.store import MaildirStore

__all__ = ["MaildirStore"]
