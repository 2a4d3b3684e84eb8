"""`python -m fastserve` is the same as the `fastserve` command."""

import sys

from fastserve.cli import main

if __name__ == "__main__":
    sys.exit(main())
