"""The package as it is installed: types, documents, licences."""

from __future__ import annotations

import doctest
import importlib.metadata
import inspect
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import mailproof
import pytest
from mailproof import _mailproof

from .conftest import skip

DISTRIBUTION = importlib.metadata.distribution("mailproof")


def test_stubs_say_what_the_module_is() -> None:
    pytest.importorskip("mypy")
    words = [sys.executable, "-m", "mypy.stubtest", "mailproof._mailproof"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_package_and_its_examples_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    package = Path(inspect.getfile(mailproof)).parent
    assert (package / "py.typed").exists()
    examples = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
    for what in [["-p", "mailproof"], *([example] for example in examples)]:
        words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, *what]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_examples_of_the_documentation_hold() -> None:
    results = [doctest.testmod(module) for module in (mailproof, mailproof._engine, mailproof._mbox, mailproof._tables)]
    assert sum(it.failed for it in results) == 0 and sum(it.attempted for it in results) >= 10


def test_everything_is_documented() -> None:
    named: list[Any] = [getattr(mailproof, name) for name in mailproof.__all__]
    for it in [mailproof, *named]:
        assert inspect.getdoc(it), it
        for name, member in vars(it).items() if inspect.isclass(it) else []:
            if not name.startswith("_"):
                assert getattr(member, "__doc__", None), f"{it.__name__}.{name}"
    assert {name for name in vars(_mailproof) if not name.startswith("_")} - set(mailproof.__all__) == {"Completions"}


def test_the_wheel_carries_its_licences() -> None:
    names = {Path(str(file)).name: file for file in DISTRIBUTION.files or []}
    if "direct_url.json" in names and "editable" in (DISTRIBUTION.read_text("direct_url.json") or ""):
        skip("installed for editing, not from a wheel")
    for name, words in [("LICENSE-MIT", "Permission is hereby granted"), ("LICENSE-APACHE", "Apache License")]:
        assert words in names[name].locate().read_text()  # type: ignore[attr-defined]
    others = names["THIRD-PARTY-LICENCES.txt"].locate().read_text()  # type: ignore[attr-defined]
    for crate in ("aws-lc-rs", "pyo3", "smallvec", "rustls"):
        assert f"\n{crate} " in others
    assert "Mozilla Public License 2.0" in others and "Rust's standard library" in others


def test_the_wheel_serves_every_later_python() -> None:
    wheel = DISTRIBUTION.read_text("WHEEL") or ""
    assert "cp311-abi3" in wheel
    assert mailproof._mailproof.__file__ is not None and ".abi3." in mailproof._mailproof.__file__


def test_the_wheel_is_all_that_is_needed(tmp_path: Path) -> None:
    wheel = os.environ.get("MAILPROOF_WHEEL")
    if wheel is None:
        skip("MAILPROOF_WHEEL names no wheel to install")
    venv.create(tmp_path / "clean")
    python = tmp_path / "clean/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", wheel], check=True)
    listed = subprocess.run([*pip, "list", "--format=freeze"], capture_output=True, text=True, check=True)
    assert [line.split("==")[0] for line in listed.stdout.split()] == ["mailproof"]
    code = "import mailproof; print(mailproof.Engine(zone={}).verify(b'From: a@b.example').dmarc.result)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"


def test_a_free_threaded_interpreter_stays_so() -> None:
    # Declared in the module; what is checked here is that nothing asks for the lock back.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import mailproof, sys; print(getattr(sys, '_is_gil_enabled', bool)())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() in ("True", "False") and done.stderr == ""
