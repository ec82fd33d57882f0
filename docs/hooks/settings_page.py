"""The settings, from their class."""

from schema_table import SchemaTable

from service.core.settings import PREFIX, Settings

INTRODUCTION = """# Settings

Where things are, and how much of them is allowed: environment variables, or a file `.env` in the folder from which a
command is started. [.env.example](../../.env.example) is such a file with all defaults. A name that isn't here is
refused at the start, and so is a value that isn't allowed. The client commands read `SIMCLR_URL` and `SIMCLR_API_KEY`
besides.
"""


def settings() -> str:
    """A table of them."""
    schema = Settings.model_json_schema()
    named = {f"{PREFIX}{name.upper()}": field for name, field in schema["properties"].items()}
    table = SchemaTable(schema.get("$defs", {})).fields({"properties": named})
    return f"{INTRODUCTION}\n{table}"
