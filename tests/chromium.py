"""A Chromium for the tests of the chat page: where it is looked for, and how it is installed where there is none.

Looked for: the program that ``BEICHEN_CHROMIUM`` names; a Chromium, Chrome or Edge on the PATH; the one that Playwright has downloaded.
``python -m tests.chromium`` (``make browser``) finds one or installs one: on Debian as root by its own package, elsewhere by Playwright.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "BEICHEN_CHROMIUM"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
PACKAGE = "chromium-headless-shell"
MISSING = f"needs a Chromium: `make browser` installs one, {VARIABLE}=/path/to/program names one"


def find_chromium() -> str | None:
    """The program's path."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or _downloaded()


def _downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str | None:
    """Try what this machine has; the installers speak for themselves.  -> the program's path"""
    apt = ["apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300"]
    ways = [[[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", PACKAGE]]] if _may_use_apt() else []
    ways.append([[sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]])
    for way in ways:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if all(subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode == 0 for command in way):
            found = find_chromium()
            if found:
                return found
    return None


def _may_use_apt() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


if __name__ == "__main__":
    program = find_chromium() or install()
    if program is None:
        sys.exit(f"error: no Chromium could be installed; {VARIABLE}=/path/to/program names one that is there already")
    print(f"chromium: {program}")
