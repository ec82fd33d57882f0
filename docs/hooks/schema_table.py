"""JSON Schema as tables of fields."""

import json
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "`{}`",
}
COMBINED = ("anyOf", "oneOf", "allOf")


class SchemaTable:
    """Writes schemas of one document, whose references are found among its definitions."""

    def __init__(self, definitions: dict[str, Schema], *, page: str = "") -> None:
        """`page` has a heading for each definition, where there is one; else objects are written out field by field."""
        self.definitions = definitions
        self.page = page

    def fields(self, schema: Schema) -> str:
        """A table of an object's fields."""
        rows = list(self._rows(schema, ""))
        if not rows:
            return "It has no fields.\n"
        return "\n".join(("| field | value | default | |", "|---|---|---|---|", *rows)) + "\n"

    def value(self, schema: Schema) -> str:
        """What a value may be, in a few words."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return f"[{name}]({self.page}#{name.lower()})" if self.page else self.value(self.definitions[name])
        for way in COMBINED:
            if way in schema:
                return " or ".join(dict.fromkeys(self.value(one) for one in schema[way]))
        if "const" in schema or "enum" in schema:
            return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
        return " ".join((self._type(schema), *_bounds(schema))).strip()

    def _type(self, schema: Schema) -> str:
        kind: str = schema.get("format") or schema.get("contentMediaType") or schema.get("type", "anything")
        if kind == "array":
            items = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
            return f"list of {self.value(items)}"
        return {"null": "null", "object": "object"}.get(kind, kind)

    def _rows(self, schema: Schema, prefix: str) -> Iterator[str]:
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            path = f"{prefix}{name}"
            part = self._object(field)
            if part is not None:
                yield from self._rows(part, f"{path}.")
                continue
            default = f"`{json.dumps(field['default'], ensure_ascii=False)}`" if "default" in field else ""
            yield _row(f"`{path}`", self.value(field), "required" if name in required else default, describe(field))

    def _object(self, field: Schema) -> Schema | None:
        """The object that a field is, if it is to be written out."""
        reference = field.get("$ref")
        if self.page or reference is None:
            return None
        part = self.definitions[reference.rsplit("/", 1)[1]]
        return part if "properties" in part else None


def describe(schema: Schema) -> str:
    """The description on one line."""
    return " ".join(schema.get("description", "").split())


def _bounds(schema: Schema) -> list[str]:
    return [text.format(_plain(schema[name])) for name, text in BOUNDS.items() if name in schema]


def _plain(bound: float | str) -> float | str:
    """A whole number without its point."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
