"""`python -m mer` is the `mer` command."""

import sys

from mer.cli import main

sys.exit(main())
