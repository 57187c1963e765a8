"""An SVG of lines and text: what the plots here are made of."""
import html


class Picture:
    def __init__(self, title, left, width, height):
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
                      '<rect width="100%" height="100%" fill="#fff"/>']
        self.text(left, 24, title, 'font-size="15" font-weight="bold"')

    def text(self, x, y, s, extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="#222" {extra}>{html.escape(s)}</text>')

    def line(self, points, colour, extra=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" {extra}/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def write(self, path):
        with open(path, "w") as f:
            f.write("\n".join(self.parts) + "\n</svg>\n")
