"""Writes THIRD-PARTY-LICENCES.txt: all that the wheel is linked from, with the texts of its licences.

Usage: python3 python/third_party_licences.py [--check]     (asks cargo; --check exits 1 where it would change)
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "THIRD-PARTY-LICENCES.txt"
NAMES = ("licen", "copying", "notice", "copyright", "unlicense")
#: What the wheels are built for.
TARGET = "x86_64-unknown-linux-gnu"


#: What is in the wheel and is no crate of the list.
OTHERS = """
The crate psl holds the Public Suffix List (https://publicsuffix.org/list/), which is under the Mozilla Public License 2.0
(https://mozilla.org/MPL/2.0/); its source is https://publicsuffix.org/list/public_suffix_list.dat.
The extension module holds parts of Rust's standard library (https://github.com/rust-lang/rust), MIT OR Apache-2.0,
copyright The Rust Project contributors."""


def run(*words: str) -> str:
    """What cargo says."""
    return subprocess.run(["cargo", *words], check=True, capture_output=True, text=True, cwd=HERE).stdout


def linked() -> list[dict]:
    """The packages that the extension is linked from, without those of this project."""
    # Procedural macros and build scripts run in the compiler, and leave nothing of themselves behind.
    kinds = "no-build,no-dev,no-proc-macro"
    tree = run("tree", "--edges", kinds, "--target", TARGET, "--prefix", "none", "--format", "{p}")
    names = {tuple(line.replace(" v", " ", 1).split()[:2]) for line in tree.splitlines() if line}
    packages = json.loads(run("metadata", "--format-version=1", f"--filter-platform={TARGET}"))["packages"]
    others = (it for it in packages if it["source"] and (it["name"], it["version"]) in names)
    return sorted(others, key=lambda package: (package["name"], package["version"]))


def texts(package: dict) -> list[str]:
    """The licence texts that a package carries."""
    folder = Path(package["manifest_path"]).parent
    files = [file for file in folder.iterdir() if file.is_file() and file.name.lower().startswith(NAMES)]
    if package["name"] == "aws-lc-sys":
        files.append(folder / "aws-lc/LICENSE")
    return [file.read_text(errors="replace").strip() for file in sorted(files) if file.suffix not in (".rs", ".toml")]


def main() -> int:
    """Writes the file, or says whether it is as it should be."""
    crates: dict[str, list[str]] = {}
    lines = ["The extension module of mailproof is linked from these crates, under these licences.", ""]
    for package in linked():
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}  {package['license'] or 'see below'}  {package['repository'] or ''}".rstrip())
        for text in texts(package):
            crates.setdefault("\n".join(line.rstrip() for line in text.splitlines()), []).append(name)
    lines += OTHERS.splitlines()
    for text, names in crates.items():
        lines += ["", "=" * 78, "Text of: " + ", ".join(names), "", text]
    written = "\n".join(lines) + "\n"
    if "--check" in sys.argv:
        is_right = FILE.read_text() == written
        print(f"{FILE.name} is {'as it should be' if is_right else 'out of date: run python/third_party_licences.py'}")
        return 0 if is_right else 1
    FILE.write_text(written)
    print(f"{len(lines)} lines, {len(written)} octets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
