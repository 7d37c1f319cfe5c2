"""The config: one pydantic model per section; unknown keys are errors with a suggestion."""

from cgloop.config.load import load_config
from cgloop.config.root import Config

__all__ = ["Config", "load_config"]
