"""`palimpsest`, and `python -m palimpsest`: checks that Python imports this product's packages, then runs the command.

Nothing else is imported before that check: a package of the same name would fail somewhere inside it.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from palimpsest_base.rooms import foreign_rooms

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command line; exits with 2 if a package of another product hides one of ours."""
    if hidden := foreign_rooms():
        print(*(f"error: {line}" for line in hidden), sep="\n", file=sys.stderr)
        sys.exit(2)
    from palimpsest.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
