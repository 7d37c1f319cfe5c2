"""The page `config-reference.md`: every key of the config."""

from cgloop.manual.keys import Key, Part, parts
from cgloop.manual.markdown import table

LONGEST_DEFAULT = 60
"""Characters; longer defaults, as the list of required checks, stand in the description."""


def config_page(command: str) -> str:
    """Return the page as text; equal models give equal bytes.

    Args:
        command: that writes the page.
    """
    blocks = [
        "# Config reference",
        f"<!-- Written by `{command}` from the models in cgloop/config: change those, not this. -->",
        "Every key of the config, in the order of the sections. Any key can be given on the command line, as in "
        "`--set train.epochs=20`. Units are part of the names of the keys. An unknown key is an error. Limits of "
        "checks and monitors are listed with what they judge in [limits.md](limits.md).",
    ]
    for part in parts():
        if part.keys:
            blocks += _part(part)
    return "\n\n".join(blocks) + "\n"


def _part(part: Part) -> list[str]:
    name = f"`{part.path}`" if part.path else "Top level"
    of = f" ({part.of})" if part.of else ""
    rows = [[f"`{key.name}`", key.type, _default(key), key.unit, key.text] for key in part.keys]
    return [f"## {name}{of}", part.text, table(["key", "type", "default", "unit", "meaning"], rows)]


def _default(key: Key) -> str:
    if key.default in ("required", "none"):
        return key.default
    return "see text" if len(key.default) > LONGEST_DEFAULT else f"`{key.default}`"
