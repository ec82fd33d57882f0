"""Which of several forms of an answer a client wants (RFC 9110, 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type of `offered` that an Accept header likes best; of equals, and if it likes none, the first.

    The most specific range decides on a type, so that `*/*;q=0.5, image/png` takes a picture.
    """
    ranges = [_range(part) for part in accept.split(",")]
    qualities = {type_: _quality(type_, ranges) for type_ in offered}
    return max(offered, key=lambda type_: qualities[type_])


def _range(part: str) -> tuple[str, float]:
    """A media range and its quality; 0 of one that can't be read."""
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, min(float(parameter[2:]), 1)
            except ValueError:
                return name, 0
    return name, 1


def _quality(type_: str, ranges: Sequence[tuple[str, float]]) -> float:
    for name in (type_, f"{type_.partition('/')[0]}/*", "*/*"):
        for range_, quality in ranges:
            if range_ == name:
                return quality
    return 0
