"""The arguments of `forward`, read off transformers' source: of every image-text-to-text class, nothing imported.

From the source, so that it can be asked of a copy in which something was renamed as well.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pixano_vlm.batching.cache_argument import CACHE_NAMES

Forwards = Mapping[str, frozenset[str]]
"""By type of model: what its class's `forward` takes."""

PASSED = ("input_ids", "attention_mask", "position_ids", CACHE_NAMES)
"""What the engine cannot do without; several names of one argument are those of different releases."""
OPTIONAL = ("pixel_values", "logits_to_keep", "mm_encoder_outputs")
"""What it passes where a class takes it: encoded images, and what makes a prefill cheap."""
OTHERS = {"self", "labels", "inputs_embeds", "use_cache"}
"""What most classes take beside these."""

NEXT_STATEMENT = re.compile(r"\n(?=@|class |def |__all__|[A-Z_]+ =)")


@cache
def installed() -> Path:
    """The folder of the installed transformers."""
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def read_forwards(folder: Path) -> Forwards:
    """Those of the transformers in `folder`."""
    auto = (folder / "models" / "auto" / "modeling_auto.py").read_text(encoding="utf-8")
    found = re.search(
        r"^MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES = OrderedDict\((.*?)^\)", auto, re.DOTALL | re.MULTILINE
    )
    assert found is not None, "the mapping of image-text-to-text classes has another name"
    sources = {}
    for file in folder.glob("models/*/modeling_*.py"):
        text = file.read_text(encoding="utf-8")
        sources.update(dict.fromkeys(re.findall(r"^class (\w+)\(", text, re.MULTILINE), text))
    types = dict(ast.literal_eval(found[1].strip()))
    return {name: _forward(sources[of], of) for name, of in types.items()}


def _forward(source: str, name: str) -> frozenset[str]:
    begin = source.index(f"\nclass {name}(") + 1
    end = NEXT_STATEMENT.search(source, begin)
    (definition,) = ast.parse(source[begin : end.start() if end else None]).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            return frozenset(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))
    raise AssertionError(f"{name} has no forward of its own")


def renamed(argument: str | tuple[str, ...], forwards: Forwards, types: set[str]) -> str | None:
    """A sentence about `types` that do not take an argument, and what they may call it now; None where all do."""
    names = {argument} if isinstance(argument, str) else set(argument)
    lacking = sorted(name for name in types if not names & forwards[name])
    if not lacking:
        return None
    known = {*OPTIONAL, *OTHERS}.union(*({name} if isinstance(name, str) else name for name in PASSED))
    new = Counter(name for kind in lacking for name in forwards[kind] - known).most_common(1)
    maybe = f"; of these {new[0][1]} take `{new[0][0]}`" if new else ""
    few = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
    old = " or ".join(f"`{name}`" for name in sorted(names))
    return f"renamed {old}: the forward of {len(lacking)} of {len(types)} classes no longer takes it ({few}){maybe}"
