#!/usr/bin/env python3
"""`make audit-deps`: look for known vulnerabilities in what requirements.lock pins.

Arguments are pip-audit's own, such as `--vulnerability-service osv`. Exit code 0: every package was
looked up, no vulnerability is known; 1: a package is vulnerable; 3: not all could be looked up.
"""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

UNCHECKED = 3
ROOT = Path(__file__).resolve().parent.parent


def main(words: list[str]) -> int:
    if find_spec("pip_audit") is None:
        return unchecked("pip-audit is not installed; make setup installs it")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        lock = (
            [] if {"-r", "--requirement"} & set(words) else ["-r", str(ROOT / "requirements.lock")]
        )
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *lock, "--disable-pip", "--require-hashes",
             "--progress-spinner", "off", "--format", "json", "--output", str(report), *words],
            capture_output=True, text=True, cwd=folder,
        )  # fmt: skip
        if not report.exists():
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else "pip-audit printed nothing"
            return unchecked(f"no index of advisories answers: {reason}")
        packages = json.loads(report.read_text())["dependencies"]
    for package in packages:
        for known in package.get("vulns", []):
            fixed = ", ".join(known["fix_versions"]) or "no version"
            version = f"{package['name']} {package['version']}"
            print(f"vulnerable: {version}: {known['id']}, fixed in {fixed}")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if any(package.get("vulns") for package in packages):
        return 1
    if skipped or not packages:
        return unchecked(f"{len(skipped)} of {len(packages)} packages unknown there: {skipped[:5]}")
    print(f"{len(packages)} packages of requirements.lock: no known vulnerability")
    return 0


def unchecked(why: str) -> int:
    print(f"dependencies were not checked: {why[:160]}")
    return UNCHECKED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
