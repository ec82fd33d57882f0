"""The vectors of a collection, copied from the database into a run folder."""

from collections.abc import Iterator

from models.collection_map import MapRecipe
from service.core.db import Database
from service.core.exact_search import Source, blocks
from service.core.maps import MAX_VALUES
from service.core.members import members_of
from service.core.projection import MAX_POINTS, directions
from service.core.tables import Collection, Job
from service.core.vectors import find_table
from trainer.run import RunError, RunFolder
from trainer.vector_file import Block, write_vectors


def write_collection(database: Database, job: Job, run: RunFolder) -> None:
    """The first vectors in order of id, scaled to length 1, as many as a map takes.

    Ids are hashes, so the first ones are a sample by chance. Raises RunError (`model_deleted`, `collection_deleted`).
    """
    recipe = MapRecipe.model_validate(job.recipe)
    with database.transaction() as session:
        if session.get(Collection, recipe.collection_id) is None:
            raise RunError("collection_deleted", "the collection was deleted")
        table = find_table(session, job.model_id, recipe.layer) if job.model_id else None
        if table is None:
            raise RunError("model_deleted", "the model was deleted")
        source = Source.of_members(table, members_of(recipe.collection_id))
        at_most = min(MAX_POINTS, MAX_VALUES // table.size)
        first = Source(f"{source.sql} order by v.image_id limit {at_most:d}", source.parameters)

        def units() -> Iterator[Block]:
            for image_ids, h in blocks(session, first, table.size):
                yield directions(image_ids, h)

        write_vectors(run.vectors, table.size, units())
