"""What each kind of job may be told, from the recipes' JSON Schemas."""

from schema_table import SchemaTable

from models.config import PRESETS
from service.routes.recipes import RECIPES

INTRODUCTION = """# Recipes

`recipe` of a job, by its kind: what `--recipe` of `simclr jobs start` and `POST /v1/jobs` take. A field that is left
out has its default, an unknown one is refused. `loss.temperature` stands for `{"loss": {"temperature": …}}`.

## Presets

`{"preset": NAME}` in a recipe of `pretrain` starts from these values; other fields override them. `GET /v1/recipes` has
each complete.

"""


def recipes() -> str:
    """The presets, then a table of fields a kind."""
    parts = [INTRODUCTION, *(f"- `{name}`: {description}" for name, (description, _) in PRESETS.items()), ""]
    for kind, recipe in RECIPES.items():
        schema = recipe.model_json_schema()
        table = SchemaTable(schema.get("$defs", {})).fields(schema)
        parts.append(f"## {kind} {{ #{kind} }}\n\n{schema.get('description', '')}\n\n{table}")
    return "\n".join(parts)
