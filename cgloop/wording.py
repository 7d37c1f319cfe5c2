"""Lists of names in sentences, and tables for a terminal."""

from collections.abc import Collection, Sequence


def listing(names: Sequence[str], at_most: int = 4) -> str:
    """`A`, `A and B`, `A, B and C`, `A, B, C, D and 3 more`."""
    shown = list(names[:at_most])
    if len(names) > at_most:
        return f"{', '.join(shown)} and {len(names) - at_most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """Lines of a table for a terminal.

    Args:
        header: titles of the columns.
        rows: cells, as many in each row.
        left: columns that are aligned to the left; the others, of numbers, to the right.
    """
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return [line(header), *map(line, rows)]
