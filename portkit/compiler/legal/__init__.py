"""The passes of the legaliser: each takes a kernel to one that needs less of the device and computes the same."""
