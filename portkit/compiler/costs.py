"""What elementwise functions cost, roughly in instructions: enough to choose between computing again and keeping."""

from __future__ import annotations

COSTS = {
    "add": 1, "sub": 1, "mul": 1, "neg": 1, "max": 1, "min": 1, "and": 1, "or": 1, "xor": 1, "not": 1, "lt": 1, "eq": 1,
    "where": 1, "cast": 1, "bits": 0, "abs": 1, "shl": 1, "shr": 1, "sign": 2, "floor": 2, "ceil": 2, "round": 2,
    "trunc": 2, "mulhi": 2, "recip": 4, "sqrt": 4, "rsqrt": 4, "div": 6, "exp2": 8, "log2": 8,
}  # fmt: skip
DEAR = 12
"""The cost of a function that is not in the table."""
