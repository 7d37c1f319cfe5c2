"""Read a config file; turn every mistake into one line that names file, line, key and remedy."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cgloop.config.root import Config
from cgloop.errors import UserError


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
    data = config.data.model_copy(update={"sources": sources})
    return config.model_copy(update={"data": data, "train": train, "slurm": slurm})


def _explain(error: ValidationError, path: Path, tree: yaml.Node | None) -> UserError:
    """The first mistake, and how many more there are."""
    mistakes = error.errors()
    # An unknown key is usually the cause of a missing one: tell it first.
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    keys = tuple(first["loc"])
    where = f"{path}, line {_line(tree, keys)}"
    name = ".".join(str(key) for key in keys) or "config"
    if first["type"] == "extra_forbidden":
        message, remedy = f"unknown key `{name}`", _nearest(keys)
    elif first["type"] == "missing":
        message, remedy = f"missing key `{name}`", "add it; `cgloop init` shows a commented config"
    else:
        text = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        shown = f", not `{given}`" if isinstance(given, str | int | float | bool) else ""
        message, remedy = f"`{name}`: {text[:1].lower()}{text[1:]}{shown}", None
    if len(mistakes) > 1:
        message += f" [and {len(mistakes) - 1} more]"
    return UserError(message, where=where, remedy=remedy)


def _nearest(keys: tuple[Any, ...]) -> str:
    known = known_keys(keys[:-1])
    close = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"


def known_keys(section: tuple[Any, ...]) -> list[str]:
    """Names that the section at this path of keys accepts."""
    model: Any = Config
    for key in section:
        if isinstance(key, int):
            continue
        fields = {f.alias or name: f for name, f in model.model_fields.items()}
        model = _model_in(fields[key].annotation) if key in fields else None
        if model is None:
            return []
    return [f.alias or name for name, f in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in getattr(annotation, "__args__", ()) if (m := _model_in(a))), None)


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
