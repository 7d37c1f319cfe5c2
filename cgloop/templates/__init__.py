"""Commented configs to start from, written by `cgloop init`."""

import difflib
from importlib import resources
from pathlib import Path

from cgloop.errors import UserError

TEMPLATES = ("quickstart", "prior-only", "ml-only")


def template_text(name: str) -> str:
    """The text of a template.

    Raises:
        UserError: there is none of this name.
    """
    if name not in TEMPLATES:
        close = difflib.get_close_matches(name, TEMPLATES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(TEMPLATES)}"
        raise UserError(f"no template `{name}`", remedy=hint)
    return (resources.files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")


def write_template(name: str, path: Path) -> None:
    """Write a template to a path that must not exist yet."""
    text = template_text(name)
    if path.exists():
        raise UserError("exists already", where=path, remedy="choose another name or remove it")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=path, remedy="check the path") from None
