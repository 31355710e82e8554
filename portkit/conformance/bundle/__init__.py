"""Bundles: cases as files, so that they run anywhere and later, and are judged where portkit is.

A *bundle* is a zip archive of launches: kernels, memory images before the launch, and what the spec accepts after it.
*Outputs* are the memory images after the launches. docs/bundles.md describes both for whoever writes or reads them.
"""
