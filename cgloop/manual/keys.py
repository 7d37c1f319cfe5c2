"""Keys of the config, collected from the pydantic models."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Gt, Interval, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cgloop.config import Config

UNITS = {
    "_kcal_per_mol_per_ns": "kcal/mol/ns", "_kT_per_ns_per_dof": "kT/ns per degree of freedom",
    "_kcal_per_mol": "kcal/mol", "_mol_per_l": "mol/l", "_per_ps": "1/ps", "_per_A": "1/Å", "_kT": "kT", "_A": "Å",
    "_K": "K", "temperatures_K": "K", "_ps": "ps", "_fs": "fs", "_s": "s", "_minutes": "min", "_hours": "h",
    "_gb": "GB", "_MB": "MB", "_deg": "degrees", "_frames": "frames", "_epochs": "epochs",
}  # fmt: skip
"""By the end of a key; the first that fits."""


@dataclass(frozen=True)
class Key:
    """One key of the config.

    Attributes:
        section: path of its section, as `md.nvt`; empty for the root.
        of: class of the section where there are several, as `allegro`; empty else.
        name: as it is written in a file.
        type: in words, with choices and bounds.
        default: as it is written in a file; `required` if there is none.
        unit: from the end of the name; empty if it has none there.
        text: description.
    """

    section: str
    of: str
    name: str
    type: str
    default: str
    unit: str
    text: str

    @property
    def path(self) -> str:
        """Full name, as `md.nvt.length_ps`."""
        return f"{self.section}.{self.name}".lstrip(".")


@dataclass(frozen=True)
class Part:
    """A section of the config with its own keys, without those of the sections in it.

    Attributes:
        path: as `md.nvt`; empty for the root.
        of: class where there are several, as `allegro`.
        text: first paragraph of the class's docstring.
        keys: in the order of the class.
    """

    path: str
    of: str
    text: str
    keys: tuple[Key, ...]


def parts(model: type[BaseModel] = Config, path: str = "", of: str = "") -> Iterator[Part]:
    """Yield a section and all sections in it, in the order of the classes.

    Sections of one class that a section holds several times, as `slurm.stages.*`, are listed once.
    """
    own = [(name, field) for name, field in model.model_fields.items() if not _sections(field)]
    keys = tuple(_key(path, of, field.alias or name, field) for name, field in own)
    if keys or not path:
        yield Part(path, of, _first_paragraph(model), keys)
    seen: set[type[BaseModel]] = set()
    for name, field in model.model_fields.items():
        found = _sections(field)
        for section in found:
            again = section is not BaseModel and section in seen
            seen.add(section)
            if not again:
                below = f"{path}.{_path_of(model, name, field, section)}".lstrip(".")
                yield from parts(section, below, _chosen_by(field, section) if len(found) > 1 else "")


def keys() -> list[Key]:
    """Return all keys of the config."""
    return [key for part in parts() for key in part.keys]


def _path_of(model: type[BaseModel], name: str, field: FieldInfo, section: type[BaseModel]) -> str:
    same = [one for one, other in model.model_fields.items() if _sections(other) == [section]]
    if len(same) > 1:
        return "<stage>"
    is_list = typing.get_origin(field.annotation) is list
    return (field.alias or name) + ("[]" if is_list else "")


def _chosen_by(field: FieldInfo, section: type[BaseModel]) -> str:
    return str(section.model_fields[str(field.discriminator)].default)


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    def inside(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        return [section for part in typing.get_args(annotation) for section in inside(part)]

    return inside(field.annotation)


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _key(section: str, of: str, name: str, field: FieldInfo) -> Key:
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    bounds = _bounds(field.metadata)
    kind = _type(field.annotation) + (f", {bounds}" if bounds else "")
    return Key(section, of, name, kind, _default(field), unit, field.description or "")


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(one) for one in arguments if one is not type(None))
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} × {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path"}
    return plain.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _bounds(metadata: list[Any]) -> str:
    words: list[str] = []
    for one in metadata:
        for kind, sign in ((Gt, ">"), (Ge, "≥"), (Lt, "<"), (Le, "≤")):
            value = getattr(one, kind.__name__.lower(), None)
            if value is not None and isinstance(one, kind | Interval):
                words.append(f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}")
        if isinstance(one, MinLen):
            words.append(f"at least {one.min_length}")
        if isinstance(one, MaxLen):
            words.append(f"at most {one.max_length}")
    return ", ".join(words)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return _written(value)


def _written(value: Any) -> str:
    """Return a value as it is written in a config file."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{}" if not value else str(value)
    return str(value)
