"""Strings from outside, made fit to print and to publish.

What a backend, a driver or a report by others says may hold terminal escapes, the paths of a machine, or the name of
whoever uses it. `printable` is for a terminal; `publishable` is for a report, which carries none of that.
"""

from __future__ import annotations

import getpass
import platform
import re
from functools import cache
from pathlib import Path

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff"
    "\U000e0000-\U000e0fff]"
)
"""Controls, marks that change the direction of text, surrogates and noncharacters; not tab and line feed."""
_URL = r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`<>|,;()\[\]]*[^\s'\"`<>|,;()\[\]:.]"
_NAME = r"[^\s/\\:'\"`<>|,;()\[\]]+"
_PATHS = re.compile(
    rf"(?P<keep>\bhttps?://(?!{_NAME}:?[^\s/@]*@)[^\s'\"`<>]+)"  # a page on the web is no path of this machine
    rf"|{_URL}"
    r"|(?P<quote>['\"`])(?:~?/|[A-Za-z]:[\\/])[^'\"`\n]*[/\\][^'\"`\n]*(?P=quote)"  # it may hold spaces
    rf"|/(?:home|root|tmp|Users|private)(?:/{_NAME})+"  # also behind an option, as in -I/home/...
    rf"|\$(?:[A-Za-z_]\w*|\{{\w+\}}|env:\w+)(?:[/\\]{_NAME})+"  # from a variable, such as $HOME
    rf"|%\w+%(?:\\{_NAME})+"
    rf"|(?<![\w:/])//{_NAME}(?:/{_NAME})+"  # a share on another machine; `// text` is a comment
    rf"|(?<![\w./<>-])~(?:{_NAME})?(?:/{_NAME})+/?"
    rf"|(?<![\w./<>-])(?:/{_NAME}){{2,}}/?"
    rf"|(?<![\w./<>-])/(?:tmp|home|root|Users|var|private)\b/?"
    rf"|(?<!\w)[A-Za-z]:[\\/](?:[^\\/:'\"`<>|\n]+[\\/])*(?:{_NAME})?"  # its folders may hold spaces
    rf"|(?<![\w\\])\\\\{_NAME}(?:\\{_NAME})+"
)
_COMMON = re.compile(
    "admin|administrator|agent|anonymous|build|builder|ci|container|docker|guest|local|localhost|me|nobody|none|"
    "portkit|root|runner|test|tester|unknown|user|vagrant"
)
"""Names of users and hosts that name nobody; they are ordinary words too."""
_LEAST = 3
"""Shorter names are not looked for: they are parts of too much else."""


def printable(text: str) -> str:
    """Return a text in which nothing moves the cursor or turns the direction; what would is a `?`."""
    return _HARMFUL.sub("?", text)


def publishable(text: str, limit: int) -> str:
    """Return a printable text of at most `limit` characters without paths and without this machine's and user's name.

    A path becomes `<path>`; web addresses, such as those of waivers, stay.
    """
    shown = _PATHS.sub(lambda found: found["keep"] or "<path>", printable(text))
    for pattern, name in _identities():
        shown = pattern.sub(name, shown)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def publishable_name(text: str, limit: int = 100) -> str:
    """Return a name of letters, digits and `_.+-`, a letter or digit first; every other character becomes `_`."""
    name = re.sub(r"[^A-Za-z0-9_.+-]", "_", text)[:limit]
    return name if name[:1].isalnum() else f"x{name}"[:limit]


@cache
def _identities() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return what this machine and this user are called, the longest name first."""
    host = platform.node()
    names = {host: "<host>", host.partition(".")[0]: "<host>", **dict.fromkeys(_user_names(), "<user>")}
    telling = [name for name in names if len(name) >= _LEAST and not _COMMON.fullmatch(name.lower())]
    return tuple((_whole(name), names[name]) for name in sorted(telling, key=len, reverse=True))


def _whole(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _user_names() -> set[str]:
    try:
        return {getpass.getuser(), Path.home().name}
    except (OSError, KeyError, RuntimeError, ImportError):  # a user id without an entry has no name to hide
        return set()
