"""What a part of the page consists of."""

from dataclasses import dataclass, field

from cgloop.figures.figure import Figure
from cgloop.report.rows import CheckRow, foremost, worst

MOST_CHECKS = 24
"""In one section; the table on top has more."""


@dataclass(frozen=True)
class Table:
    """A small table.

    Attributes:
        caption: what it says, and in which units.
        head: of the columns.
        rows: their cells, text.
        words: indices of columns that hold words; the first does, all others hold numbers.
        wide: it needs the whole width of the page.
        verdicts: one per row, shown as a symbol before it; empty for none.
    """

    caption: str
    head: list[str]
    rows: list[list[str]]
    words: frozenset[int] = frozenset({0})
    wide: bool = False
    verdicts: list[str] = field(default_factory=list)

    @property
    def stacks(self) -> bool:
        """On a phone its cells stand below each other."""
        return len(self.words) > 1 or len(self.head) > 5


@dataclass(frozen=True)
class Findings:
    """A list of sentences with a verdict each.

    Attributes:
        title, intro: above it.
        rows: verdict, what it is about, and what is to be said.
    """

    title: str
    intro: str
    rows: list[tuple[str, str, str]]


@dataclass
class Section:
    """A part of the page.

    Attributes:
        id: anchor.
        title: heading.
        intro: what it is about, one or two sentences.
        stage: whose results it shows; if that stage is missing, it says so.
        checks: the checks that belong to it.
        groups: plots by subject; the subject is "" where there is only one.
        notes: sentences above the plots.
        tables: below the plots, narrow ones beside them.
        lists: findings beside the checks.
        absent: why there is nothing, in words.
    """

    id: str
    title: str
    intro: str
    stage: str
    checks: list[CheckRow] = field(default_factory=list)
    groups: list[tuple[str, list[Figure]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    lists: list[Findings] = field(default_factory=list)
    absent: str = ""

    @property
    def verdict(self) -> str:
        return worst(self.checks)

    @property
    def foremost(self) -> list[CheckRow]:
        """The checks that are told one by one."""
        return foremost(self.checks, MOST_CHECKS)

    @property
    def figures(self) -> list[Figure]:
        return [figure for _, figures in self.groups for figure in figures]


def ungrouped(figures: list[Figure]) -> list[tuple[str, list[Figure]]]:
    """Figures as one group without a subject."""
    return [("", figures)] if figures else []
