"""Bars as SVG: no library, no script, readable as text, and right on a dark page too."""

from html import escape

LEFT, RIGHT, WIDTH, ROW, TOP = 200, 70, 760, 26, 44

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #222 }
  .title { font-weight: 600 }
  .bar { fill: #8a97a8 } .ours { fill: #2f6fb5 }
  .one { stroke: #c0392b; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .bar { fill: #6b7686 } .ours { fill: #5b9be0 } }
"""


def bars(title, rows):
    """A bar for each (name, ratio), and a line at 1."""
    most = max([1.0] + [ratio for _, ratio in rows])
    scale = (WIDTH - LEFT - RIGHT) / most
    height = TOP + ROW * len(rows) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", f'<text class="title" x="10" y="22">{escape(title)}</text>',
    ]
    for number, (name, ratio) in enumerate(rows):
        y = TOP + number * ROW
        kind = "ours" if name.startswith("watch-") else "bar"
        width = ratio * scale
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y + 2}" width="{width:.1f}" height="{ROW - 8}" rx="2"/>',
            f'<text x="{LEFT + width + 6:.1f}" y="{y + 15}">{ratio:.2f}</text>',
        ]
    one = LEFT + scale
    parts += [f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 6}" y2="{height - 8}"/>', "</svg>", ""]
    return "\n".join(parts)
