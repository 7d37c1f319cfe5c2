"""The plots of the page on speed."""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from cgloop.bench import svg
from cgloop.bench.record import Measurement
from cgloop.bench.series import Series
from cgloop.bench.svg import BROKEN, GREY, MODEL, REFERENCE, SERIES

Plot = tuple[str, Markup]
"""Caption and SVG."""


def scaling_plots(series: Series) -> list[Plot]:
    """Speedup and efficiency over devices; none of a single number of devices."""
    points = series.points
    if len(points) < 2:
        return []
    n = [point.devices for point in points]
    smooth = np.geomspace(n[0], n[-1], 40)
    law = next((one for one in series.fits if one.law.name in ("Amdahl", "Gustafson")), None)
    own = svg.Curve(
        "measured", n, [p.speedup for p in points], MODEL, [p.low for p in points], [p.high for p in points], True
    )
    ideal = svg.Curve("ideal", [n[0], n[-1]], [1, n[-1] / n[0]], GREY, dash="5 4")
    curves = [ideal]
    if law is not None:
        base = points[0].median
        at = law.at(smooth) / base
        band = ([], []) if math.isnan(law.low) else (at[:, 1].tolist(), at[:, 2].tolist())
        curves.append(
            svg.Curve(f"{law.law.name} {law.value:.2g}", smooth.tolist(), at[:, 0].tolist(), REFERENCE, *band)
        )
    low = min(0.7, *(p.low for p in points)) * 0.9
    high = max(n[-1] / n[0], *(p.high for p in points)) * 1.15
    ticks = tuple(2.0**k for k in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1))
    across = svg.Axis("devices", n[0] / 1.12, n[-1] * 1.12, tuple(map(float, n)), True)
    up = svg.Axis("speedup", low, high, tuple(t for t in ticks if low <= t <= high), True)
    speedup = svg.plot([*curves, own], across, up, f"{series.title}: speedup over devices")
    efficiency = [
        svg.Curve(
            "measured", n, [100 * p.efficiency for p in points], MODEL,
            [100 * p.low * n[0] / p.devices for p in points], [100 * p.high * n[0] / p.devices for p in points], True,
        ),
        svg.Curve("ideal", [n[0], n[-1]], [100, 100], GREY, dash="5 4"),
    ]  # fmt: skip
    top = max(110.0, *(105 * p.high * n[0] / p.devices for p in points))
    share = svg.Axis("efficiency, %", 0, top, svg.nice_ticks(0, top))
    return [
        ("Speedup; bars from the slowest to the fastest repeat, band over the interval of the fit.", Markup(speedup)),
        ("Efficiency: speedup over devices.", Markup(svg.plot(efficiency, across, share, "efficiency over devices"))),
    ]


def roofline(found: Sequence[Measurement]) -> Plot:
    """Rates of arithmetic over intensity, below the roof of the first machine's rates."""
    facts = [one.facts for one in found]
    x = [float(one["FLOPs"]) / float(one["bytes"]) for one in facts]
    y = [1e-9 * float(one["FLOP/s"]) for one in facts]
    matmul, copy = (1e-9 * max(float(one[name]) for one in facts) for name in ("matmul FLOP/s", "copy byte/s"))
    across, up = svg.decades(min(*x, matmul / copy) / 2, max(*x, matmul / copy) * 2), svg.decades(min(y), matmul * 1.2)
    across = svg.Axis("FLOP per byte", across.low, across.high, across.ticks, True)
    up = svg.Axis("GFLOP/s", up.low, up.high, up.ticks, True)
    knee = matmul / copy
    left = max(across.low, up.low / copy)
    roof = svg.Curve("roof: copy, then matmul", [left, knee, across.high], [left * copy, matmul, matmul], BROKEN)
    curves = [roof]
    for i, one in enumerate(found):
        name = one.name.split("/", 1)[1]
        curves.append(svg.Curve(name, [x[i]], [y[i]], SERIES[i % len(SERIES)], points=True))
    return "Programs below the roof that copying and matrix products make.", Markup(
        svg.plot(curves, across, up, "roofline: rate of arithmetic over arithmetic per byte")
    )


def cycle(found: Sequence[Measurement]) -> Plot:
    """Seconds of each stage."""
    rows = [
        (one.name.split("/", 1)[1], one.median, f"{one.median:.0f} s, {float(one.facts['share']):.0%}") for one in found
    ]
    return "Seconds of each stage, and shares of the whole.", Markup(svg.bars(rows, MODEL, "seconds of each stage"))
