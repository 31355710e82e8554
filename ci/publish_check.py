"""Run the commands that docs/publishing.md shows, from a key to the matrix: `python ci/publish_check.py`.

They run as they stand there, in an empty folder and with this checkout's portkit. Leaves with the status of the first
that fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "publishing.md"


def commands() -> str:
    """Return the page's one block of shell commands."""
    [block] = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return block


def main() -> int:
    """Run the commands and return their status."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    modules = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PATH": os.pathsep.join(places), "PYTHONPATH": os.pathsep.join(modules)}
    with tempfile.TemporaryDirectory(prefix="portkit-publish-") as folder:
        done = subprocess.run(["sh", "-ex"], input=commands(), text=True, cwd=folder, env=environment, check=False)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
