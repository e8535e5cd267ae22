"""Writes the list of modules of docs/explanation/architecture.md anew: each with the first sentence of its docstring.

python scripts/draw_layout.py [--check]

With --check nothing is written, and the exit code says whether the page is current.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
SOURCE = ROOT / "src" / "pixano_vlm"
BEGIN, END = "<!-- modules: made by scripts/draw_layout.py -->\n", "<!-- end of modules -->\n"
ORDER = (
    "models", "media", "prompts", "pixano_jsonl", "records", "inputs", "outputs", "importers", "batching", "engines",
    "catalog", "runs", "report", "cli", "shapes",
)  # fmt: skip
"""The folders in the order of the data, from what knows nothing to what knows everything."""


def sentence(file: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".").replace("|", "\\|").replace("<", "\\<")


def section(folder: Path) -> list[str]:
    """A folder's heading and the table of its modules."""
    lines = [
        f"### {folder.name}/",
        "",
        f"{sentence(folder / '__init__.py')}.",
        "",
        "| file | what it does |",
        "|---|---|",
    ]
    for file in sorted(folder.rglob("*.py"), key=lambda f: (len(f.relative_to(folder).parts) > 1, f)):
        name = file.relative_to(folder).as_posix()
        if file.name == "__init__.py":
            if file.parent == folder:
                continue
            name = file.parent.relative_to(folder).as_posix() + "/"
        lines.append(f"| `{name}` | {sentence(file)} |")
    return [*lines, ""]


def drawn() -> str:
    """The list as it should be."""
    top = [file for file in sorted(SOURCE.glob("*.py")) if not file.name.startswith("__")]
    lines = [
        "| file | what it does |",
        "|---|---|",
        *(f"| `{file.name}` | {sentence(file)} |" for file in top),
        "",
    ]
    for name in ORDER:
        lines += section(SOURCE / name)
    return "\n".join(lines)


def main() -> None:
    """Writes the page, or compares."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n{drawn()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        sys.exit(new != text)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
