"""The networks there are, and what the rest of the package has to know of one.

A further network is a file with a spec, its random parameters and its energies; a line in `NETWORKS`; and a class in
`cgloop.config.model` whose fields are named as those of the spec. Nothing else asks which network it is.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

import jax

from cgloop.model.allegro import edge_energies, init_allegro
from cgloop.model.allegro_paths import AllegroSpec
from cgloop.model.chemutils import ChemutilsMaceSpec, init_mace
from cgloop.model.chemutils import bead_energies as mace_energies
from cgloop.model.layers import Params
from cgloop.model.painn import PainnSpec, bead_energies, init_painn

if TYPE_CHECKING:
    from cgloop.config.model import ModelConfig


class NetworkSpec(Protocol):
    """Hyper-parameters of a network: a frozen dataclass of numbers, texts and tuples, hashable, and so a static
    argument of jit. Fields beside these, `avg_num_neighbors` and `energy_scale` are named as in the config."""

    @property
    def cutoff_A(self) -> float:
        """Beyond this distance pairs do not interact, Å."""

    @property
    def symmetry(self) -> str:
        """Whether mirror images may have different energies, "SO3" or "O3"."""

    @property
    def trained_types(self) -> tuple[bool, ...]:
        """For each of the 20 residue types, whether it was in training; another has no energy and no influence."""

    @property
    def hops(self) -> int:
        """The energy of a bead depends on beads up to so many cutoffs away; 1 of a strictly local network."""


@dataclass(frozen=True)
class Network:
    """How a network is computed.

    Attributes:
        title: its name in a sentence.
        spec: class of its hyper-parameters.
        init: (spec, key) -> random parameters, nested dictionaries of arrays.
        energies: (params, spec, vectors, types, senders, receivers, edge_mask) -> kcal/mol, arguments as in
            `allegro.edge_energies`; two continuous derivatives where a neighbour leaves the cutoff.
        per: what the energies are of: "edge", [E], owned by the receiver, exactly 0 where masked; or "bead", [N], with
            any value where a bead is padding.
    """

    title: str
    spec: type[Any]
    init: Callable[[Any, jax.Array], Params]
    energies: Callable[..., jax.Array]
    per: Literal["edge", "bead"]


NETWORKS = {
    "allegro": Network("Allegro", AllegroSpec, init_allegro, edge_energies, per="edge"),
    "painn": Network("PaiNN", PainnSpec, init_painn, bead_energies, per="bead"),
    "chemutils-mace": Network("MACE", ChemutilsMaceSpec, init_mace, mace_energies, per="bead"),
}
"""By the name that `model.network` has in the config."""

UNNAMED = "allegro"
"""The network of specs that were written down without a name. It still is, so that digests stay what they were."""


def name_of(spec: NetworkSpec) -> str:
    """Name of the network that a spec is of."""
    return next(name for name, network in NETWORKS.items() if network.spec is type(spec))


def network_of(spec: NetworkSpec) -> Network:
    """The network that a spec is of."""
    return NETWORKS[name_of(spec)]


def make_spec(config: "ModelConfig", **measured: Any) -> NetworkSpec:
    """The spec of a config.

    Args:
        config: section `model:`.
        measured: fields that come from the training set.
    """
    spec = NETWORKS[config.network].spec
    chosen = {field.name: getattr(config, field.name) for field in fields(spec) if field.name not in measured}
    return spec(**{name: _frozen(value) for name, value in chosen.items()}, **measured)


def spec_to_json(spec: NetworkSpec) -> dict[str, Any]:
    """A spec as plain JSON data, with the name of its network."""
    name = name_of(spec)
    values = asdict(spec).items()  # type: ignore[call-overload]
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values}
    return plain if name == UNNAMED else {"network": name, **plain}


def spec_from_json(data: dict[str, Any]) -> NetworkSpec:
    """The spec that `spec_to_json` wrote.

    Raises:
        ValueError: a network that is not known here.
        TypeError: unknown or missing keys.
    """
    values = {key: _frozen(value) for key, value in data.items()}
    name = values.pop("network", UNNAMED)
    if name not in NETWORKS:
        raise ValueError(f"network `{name}` is not known here, only {', '.join(NETWORKS)}")
    return NETWORKS[name].spec(**values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
