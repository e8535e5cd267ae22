"""Writes the JSON Schema of the output line, which the wheel carries, from its definition.

python scripts/write_schema.py [--check]

With --check nothing is written, and the exit code says whether the file is current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pixano_vlm.records import output_line
from pixano_vlm.records.output_line import FIRST, VERSION, OutputLine

FILE = Path(output_line.__file__).with_name("output_line.schema.json")


def schema() -> str:
    """The schema as text."""
    values = OutputLine.model_json_schema()
    values = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"version {VERSION}; a reader ignores keys that it does not know",
        **values,
        "required": list(FIRST),
    }
    return json.dumps(values, indent=2) + "\n"


def main() -> None:
    """Writes the file, or compares."""
    if "--check" in sys.argv[1:]:
        sys.exit(not FILE.exists() or FILE.read_text(encoding="utf-8") != schema())
    FILE.write_text(schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
