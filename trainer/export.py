"""Export as a job does it: at the end of pretraining, or anew from the weights of a model."""

from typing import Any

from models.config import ExportRecipe, PretrainRecipe
from models.export import ParityError, export_model, load_model
from models.simclr import SimCLR
from trainer.export_sample import export_sample
from trainer.pack import Pack
from trainer.run import RunError, RunFolder


def run_export(run: RunFolder) -> dict[str, Any]:
    """Make the files of the run folder's model from its encoder.pt; the job's result, {"model": the description}.

    Raises RunError (`parity`).
    """
    model, recipe = load_model(run.model)
    return {"model": export(model, recipe, Pack.open(run.dataset), ExportRecipe.model_validate(run.spec().recipe), run)}


def export(
    model: SimCLR, recipe: PretrainRecipe, pack: Pack, export_recipe: ExportRecipe, run: RunFolder
) -> dict[str, Any]:
    """Write the model's files to the run folder's output; what model.json holds. A refused variant is a warning.

    Raises RunError (`parity`) if ONNX Runtime doesn't compute what the network does in float32.
    """
    run.emit("stage", stage="export")
    sample = export_sample(pack, recipe.preprocessing, export_recipe)
    try:
        description = export_model(model, recipe, sample, run.output, export_recipe.variants)
    except ParityError as error:
        raise RunError("parity", str(error)) from error
    for outcome in description["variants"].values():
        if outcome["status"] == "refused":
            run.emit("warning", code="variant_refused", message=outcome["reason"])
    return description
