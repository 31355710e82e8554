"""Hints: what is likely to be the cause of a failure, guessed from what it looks like. No verdict depends on them."""
