"""Devices in processes of their own: the protocol, the client, and checked kernels."""
