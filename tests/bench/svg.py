"""Plots, drawn by hand: bars beside each other, and curves with logarithmic axes."""

import html
import math

COLOURS = {"davit": "#c2410c", "docker": "#1d63ed", "podman": "#892ca0", "containerd": "#0f766e", "runc": "#6b7280", "crun": "#a16207",
           "buildah": "#be185d", "skopeo + umoci": "#4d7c0f"}
WIDTH = 760
FONT = "font-family='system-ui, sans-serif' font-size='12'"


def colour(name):
    return next((value for known, value in COLOURS.items() if name.startswith(known)), "#374151")


def _text(x, y, words, anchor="start", extra=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {extra}>{html.escape(words)}</text>"


def _line(x1, y1, x2, y2, stroke="#e5e7eb", width=1, extra=""):
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{stroke}' stroke-width='{width}' {extra}/>"


def _page(height, title, parts):
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' {FONT} fill='#111827'>"
    background = f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>"
    name = f"<title>{html.escape(title)}</title>"
    return "\n".join([head, name, background, _text(16, 22, title, extra="font-weight='bold' font-size='14'"), *parts, "</svg>", ""])


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# ---- Bars. ---------------------------------------------------------------------------------------------------------

def bars(title, unit, rows):
    """A bar a row: name, median, low, high."""
    left, right, top, step = 130, 90, 40, 26
    most = max(high for _, _, _, high in rows) or 1
    scale = (WIDTH - left - right) / most
    parts = []
    for at, (name, middle, low, high) in enumerate(rows):
        y = top + at * step
        weight = "font-weight='bold'" if name == "davit" else ""
        parts += [_text(left - 8, y + 13, name, "end", weight),
                  f"<rect x='{left}' y='{y}' width='{max(1, middle * scale):.1f}' height='18' fill='{colour(name)}'/>",
                  _line(left + low * scale, y + 9, left + high * scale, y + 9, "#111827", 1.5),
                  _text(left + high * scale + 8, y + 13, f"{number(middle)} {unit}", extra=weight)]
    parts.append(_line(left, top - 6, left, top + len(rows) * step, "#9ca3af"))
    return _page(top + len(rows) * step + 12, title, parts)


def ratios(title, rows):
    """How many times better than the best peer: name, ratio, goal (or nothing). To the right of the line is better."""
    left, right, top, step = 350, 70, 56, 22
    values = [value for _, ratio, goal in rows for value in (ratio, goal) if value]
    low, high = min([0.5, *values]) / 1.2, max([2, *values]) * 1.2
    place = lambda value: left + (WIDTH - left - right) * math.log(value / low) / math.log(high / low)
    bottom = top + len(rows) * step
    parts = [_line(place(1), top - 12, place(1), bottom, "#111827", 1.5), _text(place(1), top - 18, "as the best peer", "middle", "fill='#4b5563'")]
    for at, (name, ratio, goal) in enumerate(rows):
        y = top + at * step
        begin, end = sorted((place(1), place(ratio)))
        fill = colour("davit") if ratio >= 1 else "#9ca3af"
        parts += [_text(left - 8, y + 12, name, "end"), f"<rect x='{begin:.1f}' y='{y}' width='{max(1, end - begin):.1f}' height='14' fill='{fill}'/>",
                  _text(max(end, place(goal) if goal else 0) + 6, y + 12, f"{ratio:.1f}×")]
        if goal:
            parts.append(_line(place(goal), y - 2, place(goal), y + 16, "#111827", 2, "stroke-dasharray='3 2'"))
    return _page(bottom + 12, title, parts)


# ---- Curves. -------------------------------------------------------------------------------------------------------

def _ticks(low, high):
    """1, 2, 5, 10, … between both."""
    found, power = [], 10 ** math.floor(math.log10(low))
    while power <= high:
        found += [step * power for step in (1, 2, 5) if low <= step * power <= high]
        power *= 10
    # Only the powers where there would be too many to read.
    return found if len(found) <= 9 else [tick for tick in found if f"{tick:e}".startswith("1.0")]


def curves(title, x_name, y_name, lines):
    """Of each contender points x, median, low, high."""
    left, right, top, height = 64, 110, 58, 390
    bottom = height - 46
    points = [each for line in lines.values() for each in line if each[1] > 0]
    xs = [max(1, x) for x, *_ in points]
    ys = [value for each in points for value in each[1:] if value > 0]
    x_low, x_high, y_low, y_high = min(xs), max([2, *xs]), min(ys) / 1.15, max(ys) * 1.15
    across = lambda x: left + (WIDTH - left - right) * math.log(max(x, x_low) / x_low) / math.log(x_high / x_low)
    up = lambda y: bottom - (bottom - top) * math.log(max(y, y_low) / y_low) / math.log(y_high / y_low)
    parts = []
    for tick in _ticks(y_low, y_high):
        parts += [_line(left, up(tick), WIDTH - right, up(tick)), _text(left - 6, up(tick) + 4, number(tick), "end")]
    for tick in _ticks(x_low, x_high):
        parts += [_line(across(tick), top, across(tick), bottom), _text(across(tick), bottom + 16, number(tick), "middle")]
    parts += [_line(left, bottom, WIDTH - right, bottom, "#9ca3af"), _text((left + WIDTH - right) / 2, height - 10, x_name, "middle"),
              _text(left - 50, top - 10, y_name, extra="fill='#4b5563'")]
    taken = []
    for name, line in sorted(lines.items(), key=lambda item: -up(max(item[1][-1][1], y_low))):
        ink = colour(name)
        line = [each for each in line if each[1] > 0]
        if not line:
            continue
        for x, _, low, high in line:
            if high > low:
                parts.append(_line(across(x), up(low), across(x), up(high), ink, 1, "opacity='0.5'"))
        path = " ".join(f"{across(x):.1f},{up(middle):.1f}" for x, middle, *_ in line)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{ink}' stroke-width='{3 if name == 'davit' else 2}'/>")
        parts += [f"<circle cx='{across(x):.1f}' cy='{up(middle):.1f}' r='3' fill='{ink}'/>" for x, middle, *_ in line]
        # Names stand where their curves end, or as near as the others leave room.
        x, y = across(line[-1][0]), up(line[-1][1]) + 4
        while any(abs(y - other) < 13 and abs(x - at) < 90 for at, other in taken):
            y -= 2
        taken.append((x, y))
        parts.append(_text(x + 8, y, name, extra=f"fill='{ink}' font-weight='{'bold' if name == 'davit' else 'normal'}'"))
    return _page(height, title, parts)
