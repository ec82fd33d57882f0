"""Under which circumstances a report's numbers came about: without these they say nothing."""

from collections.abc import Sequence
from datetime import datetime

from service.report.parts import JSON, Fact, count, seconds, written

ORDER = ("train", "val", "test")  # the database keeps no order of keys
SPLITS = {"held_out": "a fifth of the training images, held out"}


def setting(report: JSON) -> list[Fact]:
    """Data set, encoder, schedule, seed, device and time; of a job that says it, the images that scored it."""
    facts = [*_dataset(report), *_training(report), *_scoring(report), *_seed(report), *_device(report)]
    return [(name, value) for name, value in facts if value]


def _dataset(report: JSON) -> list[Fact]:
    dataset = report["dataset"]
    if dataset is None:
        return [("Data set", "deleted" if report["job"]["kind"] not in {"index", "map"} else "")]
    parts = sorted((dataset["splits"] or {}).items(), key=lambda item: ORDER.index(item[0]))
    splits = ", ".join(f"{count(part['num_images'])} {name}" for name, part in parts)
    classes = f"; {len(dataset['classes'])} classes" if dataset["classes"] else ""
    images = f"{count(dataset['num_images'])} images ({splits}){classes}" if splits else ""
    return [("Data set", f"{dataset['name']} ({dataset['id']})"), ("Images", images)]


def pretrain_recipe(report: JSON) -> JSON:
    """The recipe by which the report's model was pretrained, or that an ablation varies; empty if there is none."""
    job = report["job"]
    if job["kind"] == "pretrain":
        found: JSON = job["recipe"]
    elif job["kind"] == "ablation":
        found = job["recipe"].get("base", {})
    else:
        found = report["model"]["recipe"] if report["model"] else {}
    return found


def _training(report: JSON) -> list[Fact]:
    recipe = pretrain_recipe(report)
    of_model = "" if report["job"]["kind"] in {"pretrain", "ablation"} else "Model's "
    return [
        (_title(of_model, "encoder"), _encoder(recipe)),
        (_title(of_model, "epochs"), written(recipe["schedule"]["epochs"]) if "schedule" in recipe else ""),
        (_title(of_model, "batch"), f"{recipe['batch_size']} images" if "batch_size" in recipe else ""),
        (_title(of_model, "loss"), _loss(recipe)),
        (_title(of_model, "seed"), written(recipe["seed"]) if of_model and "seed" in recipe else ""),
    ]


def _title(of_model: str, name: str) -> str:
    return of_model + name if of_model else name.capitalize()


def _encoder(recipe: JSON) -> str:
    encoder = recipe.get("encoder", {})
    if "name" not in encoder:
        return ""
    size = recipe.get("preprocessing", {}).get("image_size")
    width = f" x {written(encoder['width'])}" if encoder.get("width", 1) != 1 else ""
    return f"{encoder['name']}{width}" + (f" on {size} x {size} pixels" if size else "")


def _loss(recipe: JSON) -> str:
    loss = recipe.get("loss", {})
    if "name" not in loss:
        return ""
    similarity = "cosine" if loss.get("normalize", True) else "dot product"
    return f"{loss['name']}, {similarity}, temperature {written(loss.get('temperature'))}"


def _scoring(report: JSON) -> list[Fact]:
    result = report["job"]["result"] or {}
    if "num_test" not in result:
        return []
    learned = f"{count(result['num_train'])} images" if "num_train" in result else ""
    votes = f"{result['k']}, temperature {written(result['temperature'])}" if "k" in result else ""
    return [
        ("Layer", str(result.get("layer", ""))),
        ("Neighbours that vote", votes),
        ("Learned from", learned),
        ("Scored on", scored_on(result)),
    ]


def scored_on(result: JSON) -> str:
    """How many images a probe was scored on, and of which split they are."""
    split = result["test_split"]
    return f"{count(result['num_test'])} images: {SPLITS.get(split, split)}"


def _seed(report: JSON) -> list[Fact]:
    recipe = report["job"]["recipe"]
    if "seeds" in recipe:
        return [("Seeds", ", ".join(map(str, recipe["seeds"])))]
    return [("Seed", str(recipe["seed"]) if "seed" in recipe else "")]


def _device(report: JSON) -> list[Fact]:
    job = report["job"]
    result = job["result"] or {}
    last = report["attempts"][-1]["processes"] if report["attempts"] else []
    asked = str(job["resources"].get("device", ""))
    return [
        ("Device", ", ".join(map(_process, last)) or (f"{asked} (asked for)" if asked else "")),
        ("Time in the process", seconds(result["seconds"]) if "seconds" in result else ""),
        ("Time from start to end", _elapsed([job["started_at"], job["finished_at"]])),
    ]


def _process(part: JSON) -> str:
    number = f"{part['num_processes']} x " if part["num_processes"] > 1 else ""
    return f"{number}{part['slot']} on {part['node']}" + (f" ({part['device']})" if part["device"] else "")


def _elapsed(instants: Sequence[str | None]) -> str:
    first, last = (datetime.fromisoformat(instant) if instant else None for instant in instants)
    return seconds((last - first).total_seconds()) if first and last else ""
