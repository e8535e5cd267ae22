"""A license that nobody has allowed is refused, and the list of parts holds what the wheel needs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.once

SCRIPT = Path(__file__).parents[1] / "scripts" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "license", "allowed"),
    [
        ("a", "MIT", True),
        ("a", "MIT License", True),
        ("a", "Apache-2.0 OR GPL-3.0-or-later", True),
        ("a", "BSD License; GNU General Public License (GPL); Public Domain", True),
        ("a", "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND MIT", True),
        ("a", "GPL-3.0-or-later", False),
        ("a", "MIT AND GPL-3.0-only", False),
        ("a", "MITIGATED", False),
        ("a", "UNKNOWN", False),
        ("a", "", False),
        ("pillow-jxl-plugin", "GPL-3.0-or-later", True),
        ("pillow-jxl-plugin", "AGPL-3.0-or-later", False),
    ],
)
def test_a_license_is_allowed_where_it_is_on_the_list(
    audit: ModuleType, name: str, license: str, allowed: bool
) -> None:
    assert audit.is_allowed(name, license) is allowed


class Ran:
    returncode, stderr = 0, ""

    def __init__(self, stdout: str) -> None:
        self.stdout = stdout


def test_a_planted_license_fails_the_audit_and_is_named(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [("good", "1", "MIT"), ("bad", "2", "AGPL-3.0")]
    rows = [dict(zip(("Name", "Version", "License"), row, strict=True)) for row in found]
    monkeypatch.setattr(audit, "tool", lambda *_: Ran(json.dumps(rows)))
    monkeypatch.setattr(sys, "argv", ["audit.py", "licenses", "python"])
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code == 1
    assert "bad 2 is under AGPL-3.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 0, "cannot be reached"),
        ("", 0, "cannot be reached"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "0 of 1"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}]}', 1, "a 1: CVE-1"),
    ],
)
def test_a_known_weakness_fails_the_audit_and_an_unreachable_service_does_not(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(audit, "tool", lambda *_: Ran(found))
    monkeypatch.setattr(sys, "argv", ["audit.py", "weaknesses"])
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code == code
    assert said in capsys.readouterr().out


def test_the_list_of_parts_holds_what_the_wheel_needs_and_no_extra(audit: ModuleType) -> None:
    requires = {
        "Pixano_VLM": [
            "torch>=2.7",
            'pytest>=9; extra == "dev"',
            'old>=1; python_version < "3"',
            "web[fast]",
        ],
        "torch": ["sympy"],
        "web": ['speedups; extra == "fast"', 'docs-tool; extra == "docs"'],
        **{name: [] for name in ("sympy", "pytest", "old", "speedups", "docs-tool")},
    }
    inspected = {
        "environment": {"python_version": "3.11"},
        "installed": [{"metadata": {"name": n, "requires_dist": r}} for n, r in requires.items()],
    }
    needed = audit.needed_by("pixano-vlm", inspected)
    assert needed == {"torch", "sympy", "web", "speedups"}
    document: dict[str, Any] = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"bom-ref": f"{name}==1", "name": name} for name in ("torch", "sympy", "pytest")],
        "dependencies": [
            {"ref": "root", "dependsOn": ["torch==1", "pytest==1"]},
            {"ref": "torch==1", "dependsOn": ["sympy==1"]},
            {"ref": "pytest==1"},
        ],
    }
    assert audit.keep(document, needed) == 2
    assert document["dependencies"] == [
        {"ref": "root", "dependsOn": ["torch==1"]},
        {"ref": "torch==1", "dependsOn": ["sympy==1"]},
    ]
