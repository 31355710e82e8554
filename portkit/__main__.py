"""The command line, as the script `portkit` and as `python -m portkit`."""

from __future__ import annotations

import sys
from typing import NoReturn

_INTERRUPTED = 130  # as in portkit.cli.output, which is not loaded yet


def main() -> NoReturn:
    """Run the command line and leave, also where Ctrl-C comes while it is still loading."""
    try:
        from portkit.cli import main as command_line
    except KeyboardInterrupt:
        sys.stderr.write("portkit: interrupted\n")
        sys.exit(_INTERRUPTED)
    command_line.main()


if __name__ == "__main__":
    main()
