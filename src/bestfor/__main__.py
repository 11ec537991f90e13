"""The command line's door: ``bestfor`` and ``python -m bestfor``."""

from __future__ import annotations

from bestfor.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
