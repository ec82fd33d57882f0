"""The HTTP API, the command line and the embedded stack."""

import sys

# Before anything is imported that an older Python can't read; pip refuses it, a copied folder doesn't.
if sys.version_info < (3, 11):  # noqa: UP036  # the reason is above
    sys.exit(f"simclr needs Python 3.11 or newer, not {sys.version.split()[0]}: make a new environment with one")
