"""Running kernels: programs on devices of this process, and devices in processes of their own for the judge."""
