"""Seeded faults: what the suite must find in a backend, applied on the judge's side of the pipe.

A mutant either rewrites each kernel before the device gets it, as a faulty printer would, or distorts what the device's
functions do. So the same mutants fit around every backend, in any language, near or remote.
"""
