"""Draw charts as inline SVG on a small canvas: the page's style sheet gives the colours, so both themes look right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Attribute = str | int | float
CHARACTER = 7.1
"""Width of an average character at 13 px, which is enough to keep labels apart."""


def tag(name: str, content: str | Markup = "", /, **attributes: Attribute) -> Markup:
    """Write one element; ``class_`` gives ``class``, underscores give hyphens, content that is no Markup is escaped."""
    parts = [Markup("<") + name]
    for key, value in attributes.items():
        shown = coordinate(value) if isinstance(value, float) else value
        parts.append(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), shown))
    inside = escape(content)
    parts.append(Markup(">{}</{}>").format(inside, name) if inside else Markup("/>"))
    return Markup("").join(parts)


def coordinate(value: float) -> str:
    """Write a number of pixels with at most one decimal, so that pages stay small."""
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@dataclass(frozen=True)
class Axis:
    """Map of values to pixels, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Find the pixel of a value; a degenerate range maps to the middle."""
        low, high, at = (math.log2(x) if self.log else x for x in (self.low, self.high, value))
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)


@dataclass
class Canvas:
    """Elements of one chart, in drawing order.

    Attributes:
        width: of the view box, in pixels at natural size.
        height: likewise.
        x: the horizontal axis.
        y: the vertical axis.
    """

    width: int
    height: int
    x: Axis
    y: Axis
    elements: list[Markup] = field(default_factory=list)

    def add(self, name: str, content: str | Markup = "", /, **attributes: Attribute) -> None:
        """Append one element."""
        self.elements.append(tag(name, content, **attributes))

    def text(self, x: float, y: float, content: str, *, anchor: str = "start", class_: str = "") -> None:
        """Write a label whose baseline starts (or ends, or is centred) at a pixel."""
        extra: dict[str, Attribute] = {"text_anchor": anchor} if anchor != "start" else {}
        extra |= {"class_": class_} if class_ else {}
        self.add("text", content, x=float(x), y=float(y), **extra)

    def path(self, xs: Sequence[float], ys: Sequence[float], class_: str) -> None:
        """Draw a curve through values; it breaks where a value is NaN."""
        pieces: list[str] = []
        pen = "M"
        for x, y in zip(xs, ys, strict=True):
            if not math.isfinite(y):
                pen = "M"
                continue
            pieces.append(f"{pen}{coordinate(self.x(x))} {coordinate(self.y(y))}")
            pen = "L"
        if pieces:
            self.add("path", d="".join(pieces), class_=class_)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], class_: str) -> None:
        """Fill the area between two curves, where both are known."""
        known = [i for i in range(len(xs)) if math.isfinite(low[i]) and math.isfinite(high[i])]
        if len(known) > 1:
            points = [(xs[i], high[i]) for i in known] + [(xs[i], low[i]) for i in reversed(known)]
            drawn = "L".join(f"{coordinate(self.x(x))} {coordinate(self.y(y))}" for x, y in points)
            self.add("path", d=f"M{drawn}Z", class_=class_)

    def rows(self, ticks: Iterable[float], label: Callable[[float], str]) -> None:
        """Draw horizontal grid lines with their labels on the left."""
        heights = [(self.y(value), label(value)) for value in ticks]
        start, end = coordinate(self.x.start), coordinate(self.x.end)
        self.add("path", d="".join(f"M{start} {coordinate(y)}H{end}" for y, _ in heights), class_="grid")
        texts = [tag("text", text, x=float(self.x.start - 8), y=float(y + 4)) for y, text in heights]
        self.add("g", Markup("").join(texts), text_anchor="end")

    def columns(self, ticks: Iterable[float], label: Callable[[float], str]) -> None:
        """Write labels under the chart, left out where they would touch, from the right so that the last one stays."""
        right = math.inf
        lines, texts = "", Markup("")
        for value in sorted(ticks, reverse=True):
            x, text = self.x(value), label(value)
            half = CHARACTER * len(text) / 2
            if x + half < right - 4:
                texts += tag("text", text, x=float(x), y=float(self.y.start + 19))
                lines += f"M{coordinate(x)} {coordinate(self.y.start)}v4"
                right = x - half
        self.add("g", texts, text_anchor="middle")
        self.add("path", d=lines, class_="tick")

    def render(self, title: str, description: str, ident: str, class_: str) -> Markup:
        """Render the whole chart, named and described for readers who cannot see it."""
        named = tag("title", title, id=f"{ident}-t") + tag("desc", description, id=f"{ident}-d")
        return tag(
            "svg",
            named + Markup("").join(self.elements),
            class_=f"chart {class_}",
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_labelledby=f"{ident}-t {ident}-d",
        )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Choose at most ``most`` round values (steps of 1, 2, 2.5 or 5 times a power of ten) within a range."""
    if not high > low:
        return [low]
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9)), 10.0 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def places(values: Sequence[float]) -> int:
    """Count the decimals that keep evenly spaced labels apart."""
    if len(values) < 2:
        return 2
    step = abs(values[1] - values[0])
    return next((d for d in range(7) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 6)


def padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """Find the smallest and largest finite value with a margin; (0, 1) where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = share * (high - low) or abs(high) * share or 1.0
    return low - margin, high + margin


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart to at least ``gap`` and keep their order, within [low, high] as far as they fit."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    gap = min(gap, (high - low) / max(len(positions) - 1, 1))
    placed = list(positions)
    floor = low
    for index in order:
        placed[index] = max(placed[index], floor)
        floor = placed[index] + gap
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed
