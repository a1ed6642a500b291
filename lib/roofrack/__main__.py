"""`python -m roofrack` is the command line."""

import sys

from roofrack.cli import main

if __name__ == "__main__":
    sys.exit(main())
