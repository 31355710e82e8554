"""Shrinks a launch that fails to a minimal one that fails in the same way."""
