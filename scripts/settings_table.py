"""Write the table of settings in docs/operations.md; with ``--check``, only say whether it is true.

python scripts/settings_table.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic import AliasChoices

from vivavoce.settings import Settings

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations.md"
TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)


def table() -> str:
    """A row for each setting: name, default, other variables, meaning."""
    rows = ["| Setting | Default | Also read from | Meaning |", "|---|---|---|---|"]
    for name, about in Settings.model_fields.items():
        choices = about.validation_alias
        others = choices.choices[1:] if isinstance(choices, AliasChoices) else []
        aliases = ", ".join(f"`{other}`" for other in others)
        default = "" if about.default_factory else shown(about.default)
        rows.append(f"| `{name}` | {default} | {aliases} | {about.description} |")
    return "\n".join(rows) + "\n"


def shown(default: object) -> str:
    """A default as the document writes it; nothing for an empty one."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if default in (None, "", (), {}) else f"`{default}`"


def main() -> None:
    """Check or rewrite; exits with 1 where a check fails."""
    text = DOCUMENT.read_text(encoding="utf-8")
    true = TABLE.sub(lambda _: table(), text)
    if "--check" in sys.argv:
        sys.exit(
            0 if true == text else f"{DOCUMENT.name} is stale: python scripts/settings_table.py"
        )
    DOCUMENT.write_text(true, encoding="utf-8")


if __name__ == "__main__":
    main()
