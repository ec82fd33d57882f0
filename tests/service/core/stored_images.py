"""Rows of images in a collection, without bytes."""

import hashlib

from sqlalchemy.orm import Session

from service.core.ids import new_id
from service.core.tables import Collection, CollectionImage, Image, Model
from tests.service.conftest import add_model


def image_ids(number: int) -> list[str]:
    """Ids in no order."""
    return [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(number)]


def add_images(session: Session, ids: list[str], name: str = "pets") -> str:
    """Images in a collection; its id."""
    collection = Collection(id=new_id("col"), name=name)
    session.add(collection)
    known = {image.id for image in session.query(Image)}
    session.add_all(
        Image(id=id_, key=id_, format="png", width=8, height=8, num_bytes=1) for id_ in ids if id_ not in known
    )
    session.flush()
    session.add_all(CollectionImage(collection_id=collection.id, image_id=id_, metadata_={}) for id_ in ids)
    session.flush()
    return collection.id


def model_of_size(session: Session, size: int) -> Model:
    """A model whose h has `size` values."""
    return add_model(session, layers={"h": size, "z": 4})
