"""What the package stands on: known weaknesses, licenses, and a list of parts.

    python scripts/audit.py weaknesses              # of constraints.txt, by pip-audit
    python scripts/audit.py licenses PYTHON         # of that Python's environment, by pip-licenses
    python scripts/audit.py parts PYTHON FILE       # of the package and what it needs there, by cyclonedx-bom

`make audit` and `make sbom` run it in an environment of its own, in which those tools are. Exits with 1 where a
weakness is known or a license is not one of `LICENSES`. Where the service that knows of weaknesses cannot be reached,
it says so and that part passes: whether it can is not the project's doing.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

LICENSES = frozenset(
    (
        "0bsd", "apache 2.0 license", "apache software license", "apache-2.0", "apache-2.0 with llvm-exception",
        "bsd", "bsd license", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0", "cnri-python", "freebsd",
        "isc license (iscl)", "mit", "mit license", "mit-cmu", "mozilla public license 2.0 (mpl 2.0)", "mpl-2.0",
        "psf-2.0", "public domain", "python software foundation license", "the unlicense (unlicense)", "unlicense",
        "zlib",
    )
)  # fmt: skip
"""Under these a package may be used beside others of any license, as they are written in packages, in lower case."""

EXCEPTIONS = {
    # Brought by the extra `jxl` alone, and imported only where a JPEG XL file is read.
    "pillow-jxl-plugin": "GPL-3.0-or-later",
    # Both of its licenses are allowed; the rest of the text says that it has parts of others in it.
    "pypdfium2": "BSD-3-Clause, Apache-2.0, dependency licenses",
}
"""Packages that may be under another license, and which."""


def is_allowed(name: str, license: str) -> bool:
    """Whether a package may be under a license: one of several to choose from, or all that hold together."""
    if EXCEPTIONS.get(name) == license:
        return True
    return any(
        all(
            part.strip(" ()").lower() in LICENSES or part.strip().lower() in LICENSES
            for part in re.split(r" AND |, ", choice)
        )
        for choice in re.split(r"; | OR ", license)
    )


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the tools that are beside this Python."""
    command = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)  # noqa: S603 - ours


def weaknesses() -> int:
    """Looks for those of the pinned packages; the number of packages that have one."""
    ran = tool("pip-audit", "-r", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json")
    try:
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        packages = []
    looked_up = [package for package in packages if "skip_reason" not in package]
    if not looked_up:
        print("weaknesses: not looked up, since the service that knows of them cannot be reached from here")
        return 0
    weak = [package for package in looked_up if package["vulns"]]
    for package in weak:
        known = ", ".join(weakness["id"] for weakness in package["vulns"])
        print(f"{package['name']} {package['version']}: {known}")
    print(f"weaknesses: {len(weak)} of {len(looked_up)} pinned packages have one that is known")
    return len(weak)


def licenses(python: str) -> int:
    """Looks at those of an environment's packages; the number of packages whose license is not allowed."""
    ran = tool("pip-licenses", "--python", python, "--from", "mixed", "--format", "json")
    if ran.returncode:
        sys.exit(f"pip-licenses failed: {ran.stderr}")
    packages: list[dict[str, str]] = json.loads(ran.stdout)
    refused = [one for one in packages if not is_allowed(one["Name"], one["License"])]
    for one in refused:
        print(
            f"{one['Name']} {one['Version']} is under {one['License']}, which scripts/audit.py does not allow"
        )
    print(f"licenses: {len(packages) - len(refused)} of {len(packages)} packages have one that is allowed")
    return len(refused)


def parts(python: str, file: str) -> None:
    """Writes which packages the wheel needs, and what those need, as a CycloneDX document (JSON)."""
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    options = ("--pyproject", "pyproject.toml", "--of", "JSON", "--output-reproducible", "--validate")
    ran = tool("cyclonedx-py", "environment", python, *options)
    if ran.returncode:
        sys.exit(f"cyclonedx-py failed: {ran.stderr}")
    document = json.loads(ran.stdout)
    inspected = subprocess.run(  # noqa: S603 - ours
        [python, "-m", "pip", "inspect"], capture_output=True, text=True, check=True
    )
    kept = keep(document, needed_by("pixano-vlm", json.loads(inspected.stdout)))
    target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"parts: {kept} packages, in {target}")


def needed_by(name: str, inspected: dict[str, Any]) -> set[str]:
    """The names of what a package needs without any extra, and of what those need in turn.

    Args:
        name: The package.
        inspected: What `pip inspect` says of the environment that it is in.
    """
    from packaging.requirements import Requirement  # the tools bring it

    installed = {_normal(one["metadata"]["name"]): one["metadata"] for one in inspected["installed"]}
    found, ahead = set[str](), [(_normal(name), frozenset[str]())]
    seen = set[tuple[str, frozenset[str]]]()
    while ahead:
        one, extras = ahead.pop()
        if one not in installed or (one, extras) in seen:
            continue
        seen.add((one, extras))
        found.add(one)
        for text in installed[one].get("requires_dist", []):
            wanted = Requirement(text)
            environments = [{**inspected["environment"], "extra": extra} for extra in ("", *extras)]
            if wanted.marker is None or any(map(wanted.marker.evaluate, environments)):
                ahead.append((_normal(wanted.name), frozenset(wanted.extras)))
    return found - {_normal(name)}


def keep(document: dict[str, Any], names: set[str]) -> int:
    """Leaves only some packages in a document; how many those are."""
    document["components"] = [part for part in document["components"] if _normal(part["name"]) in names]
    kept = {part["bom-ref"] for part in document["components"]} | {
        document["metadata"]["component"]["bom-ref"]
    }
    document["dependencies"] = [
        {**entry, "dependsOn": [part for part in entry.get("dependsOn", []) if part in kept]}
        for entry in document["dependencies"]
        if entry["ref"] in kept
    ]
    return len(document["components"])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Run the part that is named on the command line."""
    match sys.argv[1:]:
        case ["weaknesses"]:
            sys.exit(min(1, weaknesses()))
        case ["licenses", python]:
            sys.exit(min(1, licenses(python)))
        case ["parts", python, file]:
            parts(python, file)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
