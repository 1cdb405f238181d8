"""`python -m pfsmtp` is `pfsmtp`."""

import sys

from pfsmtp.cli import main

sys.exit(main())
