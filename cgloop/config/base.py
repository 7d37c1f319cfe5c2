"""Base class of the sections of the config."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Section of the config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
