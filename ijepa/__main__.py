"""``python -m ijepa``: see ``ijepa.cli``."""

import sys

from ijepa.cli import main

sys.exit(main())
