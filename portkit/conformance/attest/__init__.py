"""Attributable reports: keys, signed statements of what was published, and holding a submission against them."""
