"""What every section of the config shares."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the config: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
