"""Config keys that are left out of digests while they have no effect.

A stage is found up to date by the digest of its settings. A new key would change the digest of every run that was made
before the key existed, and all of them would be computed again, although nothing about their results has changed. So a
new key enters the digests only where its value is not its neutral one: the value at which the results are what they
were before the key existed.

To add a key to the config: write its field into a section, and, if some value of it leaves the results as they were,
add a line to `NEUTRAL`. No other code is needed: every digest of settings passes through `without_neutral`. A key
without such a value, or a change of the code that changes results, needs a new version of cgloop instead, see
docs/architecture.md.
"""

from collections.abc import Iterator, Mapping
from typing import Any

NEUTRAL: dict[str, Any] = {
    "data.sources.label": None,
    "data.sources.target": "forces",
    "data.sources.replica_offset": 0,
    "data.sources.relaxation_frames": 0,
    "data.sources.weight": 1.0,
    "model.network": "allegro",
    "model.ml_energy_bound_kcal_per_mol": None,
    "validate.lineages": {},
}
"""Dotted path of the key as in the YAML file, to the value that it had, in effect, before it existed.

The value need not be the default. A path leads through lists: `data.sources.weight` is that of every source. A key that
only runs of an unreleased version have had needs no line.
"""


def without_neutral(
    settings: Mapping[str, Any], section: str = "", neutral: Mapping[str, Any] = NEUTRAL
) -> dict[str, Any]:
    """Return settings without the keys that have their neutral value.

    Args:
        settings: plain data, nested as the config is; keys that are not of the config stay.
        section: dotted path of the settings in the config; default: they are of the whole config.
        neutral: the table.
    """
    return dict(_kept(settings, f"{section}." if section else "", neutral))


def is_neutral(key: str, value: Any) -> bool:
    """Return whether a value of a key of `NEUTRAL`, given by its dotted path, is the neutral one."""
    return _same(value, NEUTRAL[key])


def _kept(settings: Mapping[str, Any], prefix: str, neutral: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if path not in neutral or not _same(value, neutral[path]):
            yield key, _pruned(value, path, neutral)


def _pruned(value: Any, path: str, neutral: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return dict(_kept(value, f"{path}.", neutral))
    if isinstance(value, list | tuple):
        return [_pruned(one, path, neutral) for one in value]
    return value


def _same(value: Any, other: Any) -> bool:
    """Equal, and not merely because true counts as 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
