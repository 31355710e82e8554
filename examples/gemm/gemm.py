"""C = A @ B in f32, written by hand in the twelve ops.

A work-group of one lane owns a block of rows and a panel of columns of C. For each block of k it packs its panel of B
into shared memory, tile by tile, so that the inner loop reads it in order; A is read in place. The inner loop holds
a register tile of `rows` x `vectors` accumulators as loop carries: one vector load of B for each column vector, one
scalar load and one splat of A for each row, one `mul.add` for each accumulator. The order of every sum is fixed, so all
devices agree to the last bit.

The shape of the blocks follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

from portkit.errors import UsageError
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel


@dataclass(frozen=True)
class Blocking:
    """How the work is cut.

    `rows` x `vectors` of `lanes` floats are the register tile, `vectors` a power of two; `depth` and `panel` count the
    rows and columns of B that are packed at a time, `row_blocks` the work-groups that share the rows of C.
    """

    rows: int = 12
    vectors: int = 2
    lanes: int = 16
    depth: int = 512
    panel: int = 256
    row_blocks: int = 1
    unroll: int = 2

    @property
    def tile_columns(self) -> int:
        return self.vectors * self.lanes


class _Gemm:
    """The kernel under construction: the builder, the operands, and the indices in scope."""

    def __init__(self, m: int, n: int, k: int, blocking: Blocking) -> None:
        self.m, self.n, self.k, self.block = m, n, k, blocking
        self.b = Builder("gemm")
        self.left: Mem = self.b.buffer("a", "f32", m * k, "read")
        self.right: Mem = self.b.buffer("b", "f32", k * n, "read")
        self.out: Mem = self.b.buffer("c", "f32", m * n, "readwrite")
        self.packed: Mem = self.b.shared("packed", "f32", blocking.depth * blocking.panel)

    def i32(self, value: int) -> Reg:
        return self.b.const("i32", value)

    def scaled(self, index: Reg, factor: int, offset: Reg | None = None) -> Reg:
        product = self.b.mul(index, self.i32(factor))
        return product if offset is None else self.b.add(product, offset)

    def build(self) -> Kernel:
        b, block = self.b, self.block
        row_block = b.grid(block.row_blocks)
        panel = b.grid(self.n // block.panel)
        b.lane(1)
        first_row = self.scaled(row_block, self.m // block.row_blocks)
        first_column = self.scaled(panel, block.panel)
        with b.serial(self.k // block.depth) as depth_block:
            first_k = self.scaled(depth_block.index, block.depth)
            self.pack(first_k, first_column)
            with b.serial(self.m // block.row_blocks // block.rows) as row_tile:
                row = self.scaled(row_tile.index, block.rows, first_row)
                with b.serial(block.panel // block.tile_columns) as column_tile:
                    self.tile(row, first_k, first_column, column_tile.index)
        return b.build()

    def pack(self, first_k: Reg, first_column: Reg) -> None:
        """Copy a depth x panel block of B to shared memory, each tile of columns contiguous over k."""
        b, block = self.b, self.block
        with b.serial(block.depth) as step:
            source_row = self.scaled(b.add(first_k, step.index), self.n, first_column)
            with b.serial(block.panel // block.lanes) as vector:
                column = self.scaled(vector.index, block.lanes)
                value = b.load_vec(self.right, b.add(source_row, column), block.lanes)
                b.store_vec(self.packed, self.packed_index(step.index, vector.index), value, align=4 * block.lanes)

    def packed_index(self, step: Reg, vector: Reg) -> Reg:
        """Return where column vector `vector` of row `step` lies: tile-major, then k, then the vectors of the tile."""
        b, block = self.b, self.block
        shift = block.vectors.bit_length() - 1
        tile = b.op("mul.shr", vector, self.i32(shift))
        within = b.op("reduce.and", vector, self.i32(block.vectors - 1))
        row = self.scaled(step, block.tile_columns, self.scaled(within, block.lanes))
        return self.scaled(tile, block.depth * block.tile_columns, row)

    def tile(self, row: Reg, first_k: Reg, first_column: Reg, column_tile: Reg) -> None:
        """Add depth products to one register tile of C."""
        b, block = self.b, self.block
        column = self.scaled(column_tile, block.tile_columns, first_column)
        places = [self.c_index(row, r, column, v) for r in range(block.rows) for v in range(block.vectors)]
        start = [b.load_vec(self.out, place, block.lanes) for place in places]
        a_rows = [self.scaled(b.add(row, self.i32(r)), self.k, first_k) for r in range(block.rows)]
        packed_tile = self.scaled(column_tile, block.depth * block.tile_columns)
        sums = [f"s{i}" for i in range(len(places))]
        with b.serial(block.depth // block.unroll, **dict(zip(sums, start, strict=True))) as step:
            first = self.scaled(step.index, block.unroll)
            totals = [step[name] for name in sums]
            for u in range(block.unroll):
                totals = self.rank_one(totals, a_rows, packed_tile, b.add(first, self.i32(u)))
            step.next(**dict(zip(sums, totals, strict=True)))
        for i, place in enumerate(places):
            b.store_vec(self.out, place, step[sums[i]])

    def rank_one(self, totals: list[Reg], a_rows: list[Reg], packed_tile: Reg, k: Reg) -> list[Reg]:
        """Return the register tile with the product of one column of A and one row of B added."""
        b, block = self.b, self.block
        at = self.scaled(k, block.tile_columns, packed_tile)
        columns = [
            b.load_vec(self.packed, b.add(at, self.i32(v * block.lanes)), block.lanes, align=4 * block.lanes)
            for v in range(block.vectors)
        ]
        result: list[Reg] = []
        for a_row in a_rows:  # one row of A in a register at a time: all of them beside the tile would not fit
            a = b.splat(b.load(self.left, b.add(a_row, k)), block.lanes)
            result += [b.fma(a, column, totals[len(result) + v]) for v, column in enumerate(columns)]
        return result

    def c_index(self, row: Reg, r: int, column: Reg, v: int) -> Reg:
        base = self.scaled(self.b.add(row, self.i32(r)), self.n, column)
        return self.b.add(base, self.i32(v * self.block.lanes))


def gemm(m: int, n: int, k: int, blocking: Blocking | None = None) -> Kernel:
    """Return a kernel that adds A @ B to C; A is m x k, B k x n, C m x n, all f32 in row-major order.

    Raises `UsageError` where the blocks do not divide the sizes.
    """
    block = blocking or Blocking()
    if block.vectors.bit_count() != 1:
        raise UsageError(f"vectors = {block.vectors} is not a power of two; choose another Blocking")
    cuts = ((m, block.rows * block.row_blocks, "m"), (n, block.panel, "n"), (k, block.depth, "k"))
    inner = ((block.panel, block.tile_columns, "panel"), (block.depth, block.unroll, "depth"))
    for size, step, name in (*cuts, *inner):
        if size % step:
            raise UsageError(f"{name} = {size} is not a multiple of its block, {step}; choose another Blocking")
    return _Gemm(m, n, k, block).build()
