"""What a client can do: each operation under the name of its method."""

from service.client import call
from service.client.calls import collections, datasets, images, jobs, models, searches, system, vectors
from service.client.operation import Listed, Operation


class Operations:
    """The methods of `Client` and `AsyncClient`; `calls/` has them with their arguments, results and errors."""

    get = Operation(call.get)
    request = Operation(call.request)

    create_dataset = Operation(datasets.create_dataset)
    get_dataset = Operation(datasets.get_dataset)
    wait_for_dataset = Operation(datasets.wait_for_dataset)
    delete_dataset = Operation(datasets.delete_dataset)
    list_datasets = Listed(datasets.list_datasets)
    list_rejected = Listed(datasets.list_rejected)

    submit = Operation(jobs.submit)
    get_job = Operation(jobs.get_job)
    wait_for_job = Operation(jobs.wait_for_job)
    cancel_job = Operation(jobs.cancel_job)
    resume_job = Operation(jobs.resume_job)
    get_events = Operation(jobs.get_events)
    get_metrics = Operation(jobs.get_metrics)
    get_log = Operation(jobs.get_log)
    report = Operation(jobs.report)
    list_jobs = Listed(jobs.list_jobs)
    list_checkpoints = Listed(jobs.list_checkpoints)

    get_model = Operation(models.get_model)
    delete_model = Operation(models.delete_model)
    download_model_file = Operation(models.download_model_file)
    set_alias = Operation(models.set_alias)
    roll_back_alias = Operation(models.roll_back_alias)
    list_models = Listed(models.list_models)
    list_aliases = Listed(models.list_aliases)

    add_images = Operation(images.add_images)
    get_image = Operation(images.get_image)
    get_image_content = Operation(images.get_image_content)
    get_image_embedding = Operation(images.get_image_embedding)
    get_neighbors = Operation(images.get_neighbors)
    delete_image = Operation(images.delete_image)
    list_images = Listed(images.list_images)

    create_collection = Operation(collections.create_collection)
    get_collection = Operation(collections.get_collection)
    delete_collection = Operation(collections.delete_collection)
    change_image = Operation(collections.change_image)
    remove_images = Operation(collections.remove_images)
    get_quality = Operation(collections.get_quality)
    get_map = Operation(collections.get_map)
    export_collection = Operation(collections.export_collection)
    import_collection = Operation(collections.import_collection)
    list_collections = Listed(collections.list_collections)
    list_duplicates = Listed(collections.list_duplicates)

    embed = Operation(vectors.embed)
    classify = Operation(vectors.classify)
    search = Operation(searches.search)
    search_by_image = Operation(searches.search_by_image)

    get_system = Operation(system.get_system)
    get_readiness = Operation(system.get_readiness)
    get_recipes = Operation(system.get_recipes)
