"""Final delivery: `maildir`, for the users of this machine; `relay`, on to other hosts."""
