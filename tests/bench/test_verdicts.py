"""The lines under a section's figures, which are read off records alone."""

from __future__ import annotations

import subprocess
import sys


def test_lines_of_text_need_no_torch():
    """A report is drawn where nothing of what was measured is installed."""
    code = "import sys, bench.verdicts; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
