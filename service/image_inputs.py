"""The bytes of the images that come with a request and aren't stored."""

import base64

from service.core.errors import Invalid
from service.image_upload import check_number
from service.schemas.image_inputs import ImageFiles, ImageUris


async def read_inputs(body: ImageUris | ImageFiles, most: int) -> list[bytes]:
    """The file of each image. Raises TooLarge for more than `most`, Invalid for what isn't base64."""
    if isinstance(body, ImageFiles):
        check_number(len(body.files), most)
        return [await file.read() for file in body.files]
    uris = [body.input] if isinstance(body.input, str) else body.input
    check_number(len(uris), most)
    return [_decode_uri(uri, i) for i, uri in enumerate(uris)]


def _decode_uri(uri: str, position: int) -> bytes:
    try:
        return base64.b64decode(uri.partition(",")[2], validate=True)
    except ValueError as error:  # its kind binascii.Error, or that it isn't ASCII
        field = {"field": f"input.{position}", "message": f"not base64: {error}"}
        raise Invalid(f"input.{position}: not base64", errors=[field]) from error
