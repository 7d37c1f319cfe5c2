"""Small plots as SVG text: lines, bands, points with ranges, and bars, on linear or logarithmic axes.

Colours are those of the report of a run (Okabe & Ito, jfly.uni-koeln.de/color).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MODEL, REFERENCE, BROKEN = "#0072B2", "#E69F00", "#D55E00"
SERIES = (MODEL, "#009E73", "#CC79A7", "#56B4E9")
INK, GREY, RULE = "#1a1a1a", "#6b6b6b", "#e3e3e3"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 46


@dataclass(frozen=True)
class Axis:
    """One axis; `ticks` are the values that are labelled."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the lower end and 1 at the upper."""
        if self.logarithmic:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Curve:
    """What is drawn of one thing.

    Attributes:
        label: in the legend; empty for none.
        x, y: values.
        color: of all of it.
        low, high: ends of a band below a line, or of the range of each point; empty for none.
        points: markers instead of a line.
        dash: of the line, as SVG has it.
        names: text beside each marker.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    points: bool = False
    dash: str = ""
    names: Sequence[str] = ()


def nice_ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Round values between two ends of a linear axis."""
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(one * size for one in (1, 2, 5, 10) if one * size >= raw)
    first = math.ceil(low / step - 1e-9)
    return tuple(i * step for i in range(first, math.floor(high / step + 1e-9) + 1))


def decades(low: float, high: float) -> Axis:
    """A logarithmic axis of whole decades around values."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = max(1, (last - first) // 6)
    return Axis("", 10.0**first, 10.0**last, tuple(10.0**e for e in range(first, last + 1, step)), True)


def plot(curves: Sequence[Curve], x: Axis, y: Axis, title: str) -> str:
    """An SVG element; `title` is what a reader without pictures gets."""
    across = [LEFT, WIDTH - RIGHT]
    legend = [one for one in curves if one.label]
    top = TOP + 18 * ((len(legend) + 1) // 2)

    def place(a: float, b: float) -> tuple[float, float]:
        px = across[0] + (across[1] - across[0]) * x.share(a)
        return px, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - top) * y.share(b)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" font-family="{escape(FONT)}" '
        'font-size="12.5">',
        _grid(x, y, place, top),
    ]
    parts += [_curve(one, place, y) for one in curves]
    parts += [_legend(one, i) for i, one in enumerate(legend)]
    return "".join([*parts, "</svg>"])


def _text(x: float, y: float, words: str, anchor: str = "middle", color: str = INK, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{more}>{escape(words)}</text>'


def _tick(value: float, logarithmic: bool) -> str:
    exponent = math.log10(value) if logarithmic and value > 0 else 0.5
    if logarithmic and (value >= 1e4 or value < 0.01) and abs(exponent - round(exponent)) < 1e-9:
        return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(c)] if c.isdigit() else "⁻" for c in str(round(exponent)))
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _grid(x, y, place, top: float) -> str:
    parts = []
    for value in y.ticks:
        _, py = place(x.low, value)
        parts.append(f'<path d="M{LEFT} {py:.1f}H{WIDTH - RIGHT}" stroke="{RULE}"/>')
        parts.append(_text(LEFT - 6, py + 4, _tick(value, y.logarithmic), "end", GREY))
    for value in x.ticks:
        px, _ = place(value, y.low)
        parts.append(f'<path d="M{px:.1f} {HEIGHT - BOTTOM}v4" stroke="{GREY}"/>')
        parts.append(_text(px, HEIGHT - BOTTOM + 18, _tick(value, x.logarithmic), color=GREY))
    parts.append(f'<path d="M{LEFT} {top:.1f}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="{GREY}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x.label))
    middle = (top + HEIGHT - BOTTOM) / 2
    parts.append(_text(14, middle, y.label, more=f' transform="rotate(-90 14 {middle:.1f})"'))
    return "".join(parts)


def _curve(one: Curve, place, y: Axis) -> str:
    at = [place(a, b) for a, b in zip(one.x, one.y, strict=True)]
    if one.points:
        parts = []
        for i, (px, py) in enumerate(at):
            if one.low:
                ends = [place(one.x[i], min(max(v, y.low), y.high))[1] for v in (one.low[i], one.high[i])]
                parts.append(f'<path d="M{px:.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="{one.color}" stroke-width="2"/>')
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="{one.color}" stroke="#fff"/>')
            if one.names:
                anchor, gap = ("end", -8) if px > 0.62 * WIDTH else ("start", 8)
                parts.append(_text(px + gap, py + 4, one.names[i], anchor, one.color))
        return "".join(parts)
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in at)
    line = f'<path d="{path}" fill="none" stroke="{one.color}" stroke-width="2" stroke-dasharray="{one.dash}"/>'
    if not one.low:
        return line
    edge = [place(a, min(max(b, y.low), y.high)) for a, b in zip(one.x, one.high, strict=True)]
    edge += [place(a, min(max(b, y.low), y.high)) for a, b in reversed(list(zip(one.x, one.low, strict=True)))]
    band = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in edge) + "Z"
    return f'<path d="{band}" fill="{one.color}" opacity="0.16"/>' + line


def _legend(one: Curve, i: int) -> str:
    px, py = LEFT + (i % 2) * (WIDTH - LEFT - RIGHT) / 2, TOP + 18 * (i // 2)
    if one.points:
        mark = f'<circle cx="{px + 9:.1f}" cy="{py}" r="4.5" fill="{one.color}"/>'
    else:
        mark = f'<path d="M{px:.1f} {py}h18" stroke="{one.color}" stroke-width="2" stroke-dasharray="{one.dash}"/>'
    return mark + _text(px + 24, py + 4, one.label, "start")


def bars(rows: Sequence[tuple[str, float, str]], color: str, title: str) -> str:
    """Horizontal bars: label, length, and what is written at its end."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    height = 26 * len(rows) + 8
    left, right = 148, 96
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" font-family="{escape(FONT)}" '
        'font-size="12.5">'
    ]
    for i, (label, value, told) in enumerate(rows):
        py, length = 4 + 26 * i, (WIDTH - left - right) * value / most
        parts.append(_text(left - 8, py + 15, label, "end"))
        parts.append(f'<rect x="{left}" y="{py + 2}" width="{max(length, 1):.1f}" height="18" fill="{color}"/>')
        parts.append(_text(left + length + 6, py + 15, told, "start", GREY))
    return "".join([*parts, "</svg>"])
