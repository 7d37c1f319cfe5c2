"""Read a config file; turn every mistake into one line that names file, line, key and remedy."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cgloop.config.root import Config
from cgloop.errors import UserError

Keys = tuple[str | int, ...]
Fields = dict[str, FieldInfo]


def load_config(path: Path) -> Config:
    """The validated config of a YAML file, with data paths made absolute (relative to the file).

    Raises:
        UserError: the file is missing, is not YAML, or breaks the schema.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such config file", where=path, remedy="`cgloop init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=path) from None
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """As `load_config`, from the text of the file."""
    try:
        data = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else path
        raise UserError(f"not valid YAML: {getattr(error, 'problem', error)}", where=place) from None
    if not isinstance(data, dict):
        raise UserError("a config is a mapping of sections", where=path, remedy="`cgloop init` writes one")
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path, tree) from None
    return _absolute(config, Path(path).resolve().parent)


def _absolute(config: Config, folder: Path) -> Config:
    sources = [
        source.model_copy(
            update={
                key: (folder / path).resolve()
                for key in ("path", "topology")
                if (path := getattr(source, key)) is not None
            }
        )
        for source in config.data.sources
    ]
    slurm = config.slurm
    if slurm.template is not None:
        slurm = slurm.model_copy(update={"template": (folder / slurm.template).resolve()})
    train = config.train
    if train.start is not None:
        train = train.model_copy(update={"start": (folder / train.start).resolve()})
    md = config.md
    if md.lammps_inputs is not None:
        md = md.model_copy(update={"lammps_inputs": (folder / md.lammps_inputs).resolve()})
    data = config.data.model_copy(update={"sources": sources})
    return config.model_copy(update={"data": data, "train": train, "slurm": slurm, "md": md})


def _explain(error: ValidationError, path: Path, tree: yaml.Node | None) -> UserError:
    """The first mistake, and how many more there are."""
    mistakes = error.errors()
    # An unknown key is usually the cause of a missing one: tell it first.
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    keys, _, _ = _resolve(first["loc"])
    remedy = None
    if first["type"] == "union_tag_invalid":
        keys, wrong, known = _wrong_class(first["ctx"], keys)
        message, remedy = f"`{_dotted(keys)}`: there is no `{wrong}`", _did_you_mean(wrong, known)
    elif first["type"] == "extra_forbidden":
        message, remedy = f"unknown key `{_dotted(keys)}`", _nearest(first["loc"])
    elif first["type"] == "missing":
        message, remedy = f"missing key `{_dotted(keys)}`", "add it; `cgloop init` shows a commented config"
    else:
        text = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        shown = f", not `{given}`" if isinstance(given, str | int | float | bool) else ""
        message = f"`{_dotted(keys)}`: {text[:1].lower()}{text[1:]}{shown}"
    if len(mistakes) > 1:
        message += f" [and {len(mistakes) - 1} more]"
    return UserError(message, where=f"{path}, line {_line(tree, keys)}", remedy=remedy)


def _dotted(keys: Keys) -> str:
    return ".".join(str(key) for key in keys) or "config"


def _wrong_class(context: dict[str, Any], section: Keys) -> tuple[Keys, str, list[str]]:
    """Of a key whose value chooses the class of its section: its place, the value, and those there are."""
    known = context["expected_tags"].replace("'", "").split(", ")
    return (*section, context["discriminator"].strip("'")), str(context["tag"]), known


def _nearest(location: Keys) -> str:
    """What an unknown key may have meant, by the place where pydantic reports it."""
    *section, key = location
    _, known, others = _resolve(tuple(section))
    owners = [name for name, fields in others.items() if key in fields]
    if owners:
        return f"a key of {' and '.join(owners)}; known here: {', '.join(known)}"
    return _did_you_mean(str(key), list(known))


def _did_you_mean(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"


def _resolve(location: Keys) -> tuple[Keys, Fields, dict[str, Fields]]:
    """What a place that pydantic reports is in the file.

    Where a section may be of several classes, pydantic puts the name of the class behind that of the section.

    Returns:
        the keys without names of classes, the fields of the section there, and those of its other classes by name.
    """
    keys: list[str | int] = []
    fields: Fields = _fields(Config)
    classes: dict[str, Fields] = {}
    for key in location:
        if key in classes:
            fields = classes.pop(str(key))
            continue
        keys.append(key)
        if isinstance(key, int):
            continue
        field = fields.get(key)
        sections = _sections_in(field.annotation) if field else []
        chooser = str(field.discriminator) if field and field.discriminator else None
        classes = {s.model_fields[chooser].default: _fields(s) for s in sections} if chooser else {}
        fields = _fields(sections[0]) if sections else {}
    return tuple(keys), fields, classes


def _fields(section: type[BaseModel]) -> Fields:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections_in(part)]


def _line(node: yaml.Node | None, keys: tuple[Any, ...]) -> int:
    """Line of the deepest key on the path that is in the file, from 1."""
    line = 1
    for key in keys:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = (node.value[key], node.value[key])
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
