"""`--json-schema` and `--concise-schema`: what every answer must look like -> a `response_format`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import PydanticUserError, TypeAdapter

from pixano_vlm.catalog import load_plugin
from pixano_vlm.errors import MissingPackageError, UsageError
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.nearest import nearest_path
from pixano_vlm.prompts.concise_schema import concise_schema, is_concise
from pixano_vlm.prompts.response_format import INSTALL, check_response_format, missing_packages

__all__ = ["check_settings", "read_json_schema", "read_schema_flags"]

_CLASS = re.compile(r"(?P<module>.+):(?P<name>[^\W\d]\w*)")
_FORMS = "Give a JSON Schema file, a Pydantic class such as answers.py:Caption, or the schema itself."


def read_schema_flags(json_schema: str | None, concise: str | None) -> tuple[dict[str, Any] | None, str]:
    """The `response_format` that the flags ask for, None where none is given, and what messages call it.

    Raises:
        UsageError: When both are given, or what is given is not a schema.
    """
    if json_schema is not None and concise is not None:
        raise UsageError(
            "--json-schema and --concise-schema both give a schema.", hint="Leave one of them out."
        )
    if concise is not None:
        schema = concise_schema(concise, "--concise-schema")
        return {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema},
        }, "--concise-schema"
    if json_schema is not None:
        return read_json_schema(json_schema), f"--json-schema {json_schema}"
    return None, ""


def read_json_schema(spec: str) -> dict[str, Any]:
    """The `response_format` that `--json-schema` asks for.

    Args:
        spec: A file that holds a JSON schema (or a whole `response_format`); `FILE.py:CLASS` or `MODULE:CLASS` for
            a Pydantic class, or any other type that Pydantic knows; or the schema itself, which begins with a brace.

    Raises:
        UsageError: When there is no such file or class, or it is not a schema.
    """
    name = "answer"
    if spec.lstrip().startswith("{"):
        schema = _parsed(spec, "--json-schema")
    elif (named := _CLASS.fullmatch(spec)) and not Path(spec).exists():
        schema, name = _from_class(spec, named["module"], named["name"]), named["name"]
    else:
        schema, name = _from_file(Path(spec)), Path(spec).stem
    if schema.get("type") in ("json_schema", "json_object", "text"):  # none of them is a type of JSON Schema
        return schema
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "answer"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def check_settings(settings: GenerationSettings, source: str) -> GenerationSettings:
    """The run's settings, with a `response_format` that can be asked for; one of free text is left out.

    Args:
        settings: As flags and config say.
        source: Where the `response_format` stands, for messages.

    Raises:
        UsageError: When it is unusable; says which part.
        MissingPackageError: When what it needs is not installed.
    """
    asked = settings.response_format
    if asked is None:
        return settings
    if asked.get("type") == "text":
        return settings.model_copy(update={"response_format": None})
    if missing := missing_packages():
        raise MissingPackageError(f"answers in JSON need {' and '.join(missing)}.", hint=f"{INSTALL}.")
    try:
        check_response_format(asked)
    except ValueError as error:
        raise UsageError(f"{source} {error}.") from None
    return settings


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = nearest_path(path) or (
            f'Did you mean --concise-schema "{path}"?' if is_concise(str(path)) else _FORMS
        )
        raise UsageError(f"there is no JSON schema {path}.", hint=hint) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint=_FORMS) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8.", hint="Save it as UTF-8.") from error
    if path.suffix == ".py":
        raise UsageError(f"{path} holds Python.", hint=f"Name the class in it: {path}:CLASS.")
    return _parsed(text, str(path))


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{source} is not JSON, at line {error.lineno}: {error.msg}.", hint=_FORMS) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nested without end
        raise UsageError(f"{source} is not JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"{source} holds no JSON schema: it must be an object.", hint=_FORMS)
    return schema


def _from_class(spec: str, module: str, name: str) -> dict[str, Any]:
    found = getattr(load_plugin(module, "--json-schema"), name, None)
    if found is None:
        raise UsageError(f"--json-schema: {module} has no {name}.", hint=_FORMS)
    try:
        schema: dict[str, Any] = closed(TypeAdapter(found).json_schema())
    except PydanticUserError as error:
        raise UsageError(
            f"--json-schema: {spec} has no JSON schema: Pydantic knows no such type.", hint=_FORMS
        ) from error
    return schema


def closed(schema: Any) -> Any:
    """A class's schema without room for keys that the class does not have.

    Pydantic passes over such keys when it reads; a model that may write them never stops. A class that says
    `extra="allow"` keeps them.
    """
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        parts.setdefault("additionalProperties", False)
    return parts
