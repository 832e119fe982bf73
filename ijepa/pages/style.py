"""How every figure looks, and how it is saved so that the same figure is the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe & Ito's palette: told apart by colour-blind readers, and by lightness on grey paper.
BLUE, SKY, ORANGE, GREY, GREEN, RED = (
    "#0072B2", "#A9D3EC", "#E69F00", "#8C8C8C", "#009E73", "#D55E00"
)  # fmt: skip
INK = "#222222"
SEED = "#4F93C4"  # small marks: 3.3 times as dark as white, and lighter than a mean
ENCODERS = {"trained": BLUE, "random_init": ORANGE, "pixels": GREY}
DPI = 200  # of the PNG files; pictures made of images are laid out in these pixels


@contextmanager
def figure(path: Path, size: tuple[float, float], fitted: bool = True) -> Iterator[Figure]:
    """Draw into a figure that is saved as ``path`` with .png and .svg when the block ends.

    Args:
        path: where to, without a suffix.
        size: width and height in inches.
        fitted: lay the axes out so that no label is clipped or meets another.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the machine must not show
        mpl.rcParams.update(
            sns.axes_style("ticks")
            | {
                "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
                "font.size": 8.5,
                "axes.titlesize": 9,
                "axes.titleweight": "bold",
                "axes.titlelocation": "left",
                "axes.edgecolor": "#555555",
                "axes.linewidth": 0.8,
                "xtick.major.width": 0.8,
                "ytick.major.width": 0.8,
                "xtick.major.size": 3,
                "ytick.major.size": 3,
                "axes.grid": True,
                "grid.color": "#ECECEC",
                "grid.linewidth": 0.8,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.frameon": False,
                "text.color": INK,
                "text.parse_math": False,  # a class may be called "$"
                "axes.labelcolor": INK,
                "svg.hashsalt": "ijepa",
                "svg.fonttype": "path",
            }
        )
        drawing = Figure(figsize=size, layout=_layout() if fitted else None)
        yield drawing
        path.parent.mkdir(parents=True, exist_ok=True)
        if fitted:  # lay out once, not at each pass of each save
            drawing.draw_without_rendering()
            drawing.set_layout_engine("none")
        drawing.savefig(f"{path}.png", dpi=DPI, metadata={"Software": None})
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(f"{path}.svg", dpi=DPI, metadata=nothing)


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07)  # inches
