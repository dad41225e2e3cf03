"""``python -m vivavoce.cli``, where the program itself is not on the path."""

from __future__ import annotations

from vivavoce.cli.hangups import main

if __name__ == "__main__":
    main()
