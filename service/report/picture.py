"""A report as one picture."""

from service.report.drawing import png
from service.report.kinds import kind_of
from service.report.parts import JSON


def picture(report: JSON) -> bytes | None:
    """The PNG file, or None if there is nothing to draw: of some kinds of job never, of the others at first."""
    return png(lambda: kind_of(report).draw(report))
