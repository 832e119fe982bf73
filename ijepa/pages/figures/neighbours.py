"""Fixed images beside their nearest ones by each kind of features."""

from pathlib import Path
from typing import Any

from ijepa.pages import style
from ijepa.pages.figure import Words
from ijepa.pages.sheet import Sheet, side_near, tile
from ijepa.pages.text import spoken
from ijepa.results import Results
from ijepa.results.representation import NEIGHBOURS, Views


def needs(results: Results) -> bool:
    """Images and an encoder."""
    return results.representation is not None


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    seen = results.representation
    assert seen
    counts = "; ".join(
        f"{spoken(name)} {seen.same[name]} of {seen.shown}"
        for name in style.ENCODERS
        if name in seen.same
    )
    return Words(
        "Nearest neighbours",
        f"{len(seen.ids)} query images ({', '.join(seen.labels)}), each beside its nearest images."
        f" Of the query's class are: {counts}.",
        f"The {NEIGHBOURS} nearest among {seen.pool:,} images of the {seen.split} split, by the"
        " cosine similarity of mean patch features of the last block (or of pixels) once the mean"
        f" over images is removed. Solid blue frame: the query's {spoken(seen.task)}; dashed"
        f" orange: another. Of the query's {spoken(seen.task)} are: {counts}. So few queries only"
        " illustrate; the kNN rows of the table measure.",
        picture=True,
    )


def draw(views: Views, path: Path) -> None:
    """A row a query; a neighbour of its class has a solid blue frame, any other a dashed one."""
    side, gap, top = side_near(views.images.shape[1], 84), 14, 50
    neighbours = views.numbers.neighbours
    nearest = len(next(iter(neighbours.values()))[0])
    block = nearest * (side + gap) + 20
    width = gap + (side + 34) + len(neighbours) * block
    sheet = Sheet.blank(width, top + len(views.images) * (side + gap))
    sheet.write(gap + side / 2, 22, "query", ha="center", fontweight="bold")
    for number, (name, rows) in enumerate(neighbours.items()):
        left = gap + side + 34 + number * block
        what = spoken(name) if name == "pixels" else f"{spoken(name)} features"
        sheet.write(left, 22, f"nearest by {what}", fontweight="bold")
        for row, images in enumerate(rows):
            for place, image in enumerate(images):
                x, y = left + place * (side + gap), top + row * (side + gap)
                sheet.paste(tile(views.pictures[image], side), x, y)
                sheet.frame(x - 3, y - 3, side + 6, **_frame(bool(views.alike[name][row, place])))
    for row, query in enumerate(views.images):
        sheet.paste(tile(query, side), gap, top + row * (side + gap))
    sheet.save(path)


def _frame(alike: bool) -> dict[str, Any]:
    if alike:
        return {"ec": style.BLUE, "lw": 2.0}
    return {"ec": style.RED, "lw": 1.0, "ls": "--"}
