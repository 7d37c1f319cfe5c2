"""Arithmetic of the matrix products of a compiled program, read from what XLA made of it."""

import re
from math import prod

DEFINITION = re.compile(r"%?([\w.\-]+) = \w+\[([\d,]*)\]\S* ([\w\-]+)\((.*)")
CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")


def product_flops(program: str) -> int:
    """Floating-point operations of all matrix products of a program without loops, two for each term of a sum.

    Args:
        program: the optimised HLO, `compiled.as_text()`.

    Raises:
        ValueError: products are in library calls or loops, which are not counted.
    """
    if " custom-call(" in program or " while(" in program:
        raise ValueError("a product may be in a library call or a loop")
    shapes, products = {}, []
    for line in program.splitlines():
        if found := DEFINITION.search(line):
            name, shape, operation, rest = found.groups()
            shapes[name] = [int(size) for size in shape.split(",") if size]
            if operation == "dot":
                products.append((name, rest))
    total = 0
    for name, rest in products:
        left = re.match(r"(?:\w+\[[\d,]*\]\S* )?%?([\w.\-]+)", rest)
        contracted = CONTRACTED.search(rest)
        assert left
        assert contracted
        sizes = shapes[left[1]]
        total += 2 * prod(shapes[name]) * prod(sizes[int(axis)] for axis in contracted[1].split(",") if axis)
    return total
