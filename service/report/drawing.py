"""How pictures look, and from a figure to a PNG file: the same bytes for the same report.

Colours are Okabe and Ito's, told apart by every kind of colour vision, and cividis; every picture brings its own light
ground, so that it reads on a dark page too. No text is read as a formula: names come from users.
"""

import io
import threading
from collections.abc import Callable
from functools import lru_cache

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
GRAY, DARK, PALE = "#6b6b6b", "#222222", "#e2e2e2"
COLOR_MAP = "cividis"
DPI = 144
FONT = "DejaVu Sans"  # comes with matplotlib

STYLE = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": DARK,
    "axes.grid": False,
    "grid.color": PALE,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": DPI,
    "text.color": DARK,
    "text.parse_math": False,
    "xtick.color": DARK,
    "ytick.color": DARK,
}

_drawing = threading.Lock()  # matplotlib's parameters are the process's


def png(draw: Callable[[], Figure | None]) -> bytes | None:
    """The PNG file of what `draw` makes, drawn in our style whatever the user's own settings of matplotlib are."""
    file = io.BytesIO()
    with _drawing, matplotlib.style.context(["default", STYLE]):
        figure = draw()
        if figure is None:
            return None
        figure.savefig(file, format="png", metadata={"Software": None})  # else matplotlib's version is in the file
    return file.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches; its axes make room for their labels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def label(name: str, most: int = 24) -> str:
    """A user's name as a label of at most so many characters: on one line, without what the font can't draw."""
    known = _characters()
    drawn = "".join(char if ord(char) in known else "\N{WHITE SQUARE}" for char in " ".join(name.split()))
    return drawn if len(drawn) <= most else drawn[: most - 1] + "…"


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def legend_outside(axes: Axes) -> None:
    """The legend to the right of the axes, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def grid(axes: Axes, which: str) -> None:
    """Faint lines behind the data, along the axis that is read off."""
    axes.grid(visible=True, axis=which)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
