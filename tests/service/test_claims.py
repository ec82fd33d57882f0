"""A claim is decided by a difference and its interval, whichever way it goes."""

from typing import Any

import pytest

from service.claims import (
    NORMALIZE,
    OPERATIONS,
    TEMPERATURE,
    Claim,
    composition_claims,
    is_single,
    layer_claims,
    normalization_claims,
    transform_claims,
)

HALF = 0.03


def layer(name: str, top1: float) -> dict[str, Any]:
    return {"layer": name, "linear_top1": top1, "confidence_interval": [top1 - HALF, top1 + HALF]}


def cell(top1: float | None, contrastive: float = 0.5, **values: Any) -> dict[str, Any]:
    """One of an ablation's table, or a missing one."""
    run = {"confidence_interval": [(top1 or 0) - HALF, (top1 or 0) + HALF]}
    run["measures"] = {"contrastive_accuracy": contrastive}  # type: ignore[assignment]
    fields = {NORMALIZE: values.get("normalize"), TEMPERATURE: values.get("temperature")}
    if "operations" in values:
        fields = {OPERATIONS: values["operations"]}
    return {"values": fields, "mean": top1, "runs": [run] if top1 is not None else []}


def verdicts(claims: list[Claim]) -> dict[str, str]:
    return {claim.claim: claim.verdict for claim in claims}


@pytest.mark.parametrize(
    ("h", "expected"), [(0.60, "holds"), (0.54, "undecided"), (0.46, "undecided"), (0.40, "does not hold")]
)
def test_a_difference_is_held_against_its_interval(h: float, expected: str) -> None:
    """With half-widths of 0.03 each, 0.0424 decides: h at 0.60 or 0.40 against z at 0.50 does, 0.54 or 0.46 doesn't."""
    claims = layer_claims({"layers": [layer("h", h), layer("z", 0.5)]})
    assert verdicts(claims)["h is a better representation than z"] == expected
    assert f"{h - 0.5:+.3f} ± 0.042" in claims[0].measured


def test_h_is_held_against_the_best_other_layer() -> None:
    """An earlier layer that is far better than h refutes it, though z is far worse."""
    claims = layer_claims({"layers": [layer("layer3.0", 0.7), layer("h", 0.6), layer("z", 0.3)]})
    assert [claim.verdict for claim in claims] == ["holds", "does not hold"]
    assert "layer3.0 0.700" in claims[1].measured


def test_a_head_without_layers_has_no_z_to_compare() -> None:
    """Only the question of the other layers is left."""
    assert len(layer_claims({"layers": [layer("stem", 0.3), layer("h", 0.6)]})) == 1


def test_each_transformation_is_a_claim_with_the_papers_figures() -> None:
    """Rotation is read from h and not from z; color is read from both: undecided."""
    rows = []
    for name, h, z in (("rotation", 0.7, 0.26), ("color", 0.99, 0.98)):
        for of, accuracy in (("h", h), ("z", z)):
            interval = [accuracy - HALF, accuracy + HALF]
            row = {"transformation": name, "layer": of, "accuracy": accuracy, "confidence_interval": interval}
            rows.append({**row, "paper": {"h": 0.676, "z": 0.256}[of], "paper_chance": 0.25, "chance": 0.25})
    rotation, color = transform_claims({"rows": rows})
    assert (rotation.verdict, color.verdict) == ("holds", "undecided")
    assert "h 0.676, g(h) 0.256" in rotation.paper


def test_normalisation_and_temperature_are_told_apart() -> None:
    """At each temperature that both have; a combination without a result takes no part."""
    cells = [
        cell(0.6, 0.7, normalize=True, temperature=0.1),
        cell(0.4, 0.3, normalize=True, temperature=1.0),
        cell(None, normalize=False, temperature=0.1),
        cell(0.5, 0.9, normalize=False, temperature=1.0),
    ]
    assert verdicts(normalization_claims({"cells": cells})) == {
        "the best normalised loss beats the best without": "holds",
        "temperature matters where z is normalised": "holds",
        "at temperature 1, normalising alone helps": "does not hold",
        "the contrastive accuracy is higher without normalisation": "holds",
    }


def test_nothing_is_claimed_of_a_grid_that_lacks_one_side() -> None:
    """All runs without normalisation diverged: there is nothing to compare."""
    cells = [cell(0.6, normalize=True, temperature=0.1), cell(None, normalize=False, temperature=0.1)]
    assert normalization_claims({"cells": cells}) == []


def test_crop_with_color_has_to_beat_every_other_composition() -> None:
    """Whichever comes first; color is jitter and grayscale, one transformation."""
    color = ["color_jitter", "grayscale"]
    table = {
        ("crop",): 0.40,
        tuple(color): 0.35,
        ("crop", *color): 0.55,
        (*color, "crop"): 0.50,
        ("crop", "cutout"): 0.52,
        ("cutout",): 0.30,
    }
    claims = composition_claims({"cells": [cell(top1, operations=list(names)) for names, top1 in table.items()]})
    assert [claim.verdict for claim in claims] == ["undecided", "holds"]
    assert "crop + cutout 0.520" in claims[0].measured
    assert (is_single(color), is_single(["crop", *color])) == (True, False)
