"""``python -m beichen`` is the command ``beichen``."""

import sys

from beichen.cli.main import main

sys.exit(main())
