"""Checks what the workspace is linked from: which crate may use which, and under which licences.

Usage: python3 scripts/check_dependencies.py        (reads `cargo metadata`; exits 1 with a line for each breach)
"""

import json
import re
import subprocess
import sys

# A crate of ours, and the crates of ours it may use. The direction of the design: the command line stands on the
# engine, the engine on the core, and the core on nothing that does input or output.
MAY_USE = {
    "mailproof-kernels": set(),
    "mailproof-proto": {"mailproof-kernels"},
    "mailproof-io": set(),
    "mailproof": {"mailproof-io", "mailproof-proto"},
    "mailproof-milter": {"mailproof", "mailproof-proto"},
    "mailproof-python": {"mailproof", "mailproof-explain", "mailproof-proto"},
    "mailproof-testkit": {"mailproof", "mailproof-proto", "mailproof-kernels", "mailproof-milter"},
    "mailproof-explain": {"mailproof", "mailproof-proto"},
    "mailproof-cli": {"mailproof", "mailproof-explain", "mailproof-milter", "mailproof-proto"},
    "mailproof-benches": {"mailproof", "mailproof-io", "mailproof-proto", "mailproof-kernels", "mailproof-testkit"},
    "mailproof-ffi": {"mailproof", "mailproof-explain", "mailproof-proto"},
    "mailproof-fault-dns": {"mailproof", "mailproof-proto", "mailproof-testkit"},
    "mailproof-library": set(),
    "mailproof-loadtest": {"mailproof", "mailproof-fault-dns", "mailproof-library", "mailproof-milter", "mailproof-proto", "mailproof-testkit"},
}
TEST_ONLY = {"mailproof-testkit", "mailproof-fault-dns", "mailproof-library"}
# The core decides and does nothing else.
PROTO_MUST_NOT_USE = {"tokio", "libc", "mio", "socket2", "io-uring", "moka"}
LICENCES = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "OpenSSL", "Unicode-3.0", "Unlicense", "Zlib",
}


def allowed(expression: str) -> bool:
    """True when some choice that the licence expression leaves is allowed."""
    expression = expression.replace("/", " OR ")
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)
    words, index = [], 0
    while index < len(tokens):
        token = tokens[index]
        if index + 2 < len(tokens) and tokens[index + 1] == "WITH":
            token, index = f"{token} WITH {tokens[index + 2]}", index + 2
        words.append({"OR": "or", "AND": "and", "(": "(", ")": ")"}.get(token.upper(), str(token in LICENCES)))
        index += 1
    return bool(eval(" ".join(words), {"__builtins__": {}}))  # only the words above reach this line


def main() -> int:
    """Prints every breach; the exit code says whether there was one."""
    command = ["cargo", "metadata", "--format-version=1", "--all-features"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    breaches = []
    members = set(metadata["workspace_members"])
    for package in metadata["packages"]:
        name, licence = package["name"], package.get("license") or ""
        if package["id"] not in members:
            if not licence or not allowed(licence):
                breaches.append(f"{name} {package['version']}: licence {licence or 'not stated'}")
            continue
        if name not in MAY_USE:
            breaches.append(f"{name}: no rule says what it may use")
            continue
        for dependency in package["dependencies"]:
            used = dependency["name"]
            if dependency["kind"] == "dev" and used in TEST_ONLY:
                continue
            if used.startswith("mailproof") and used not in MAY_USE[name]:
                breaches.append(f"{name} uses {used} against the direction of dependencies")
            if name == "mailproof-proto" and used in PROTO_MUST_NOT_USE:
                breaches.append(f"{name} uses {used}: the core does no input or output")
    for breach in breaches:
        print(breach)
    print(f"{len(metadata['packages'])} packages checked, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
