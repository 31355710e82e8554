"""The spec changes only on purpose: whoever changes v1.toml pins the new digest here and says so in the changelog."""

from __future__ import annotations

from portkit.spec.forms import VERSION, digest

PINNED = "6f20ef0decdb4fca576111cdeaf1b8fc933510914efe6ba90fbcbd51058ffc80"


def test_the_spec_file_has_the_pinned_digest() -> None:
    assert digest() == PINNED, f"v1.toml changed: if that is meant, pin {digest()} and write a changelog entry"


def test_the_version_is_a_draft_until_eight_ports_pass() -> None:
    assert VERSION == "1.0-draft"
