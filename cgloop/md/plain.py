"""Inputs for a plain `lmp`: a folder that runs where there is no Python, one replica a run.

The prior is LAMMPS's own styles. A network is `pair_style chemtrain_deploy` where the bundle has `model.ptb`; that
needs an `lmp` with chemtrain-deploy's plugin. Its arguments are those of the plugin's documentation: pjrt device and
fraction of its memory; model, and how many times the atoms and edges of the beginning there is room for.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgloop.errors import UserError
from cgloop.export.bundle import Bundle
from cgloop.export.chemtrain_deploy import PTB
from cgloop.export.lammps_styles import COMMANDS, native_styles
from cgloop.md.inputs import find_template, render, write_data_file
from cgloop.md.system import System

log = logging.getLogger("cgloop.md")

DATA_FILE = "system.data"
SCRIPTS = ("plain_minimize.in", "plain_nvt.in", "plain_nve.in")
SETUP = "plain_setup.in"
GHOSTS_A, SKIN_A = 100.0, 2.0

_DEFAULT = re.compile(r"^(variable\s+(\w+)\s+index\s+)\$\{\2\}", re.MULTILINE)


@dataclass(frozen=True)
class PlainSettings:
    """Defaults of the scripts' variables; each can be changed by `lmp -var`.

    Attributes:
        temperature_K, friction_per_ps, timestep_fs: of the dynamics.
        seed: of `fix langevin`, positive.
        equilibration_steps, steps: of the dynamics.
        thermo_every, dump_every, restart_every: intervals in steps.
        force_tolerance, max_steps: of the minimisation, kcal/mol/Å.
        device, memory: pjrt device of the plugin, and the fraction of its memory.
        room: how much more atoms and edges than at first there is room for.
    """

    temperature_K: float
    friction_per_ps: float = 1.0
    timestep_fs: float = 2.0
    seed: int = 1
    equilibration_steps: int = 0
    steps: int = 50_000
    thermo_every: int = 500
    dump_every: int = 500
    restart_every: int = 5_000
    force_tolerance: float = 0.05
    max_steps: int = 2000
    device: str = "cuda12"
    memory: float = 0.9
    room: float = 1.2


def write_plain_inputs(
    folder: Path,
    bundle: Bundle,
    system: System,
    positions: np.ndarray,
    velocities: np.ndarray,
    settings: PlainSettings,
    scripts: Path | None = None,
) -> list[Path]:
    """Write data file, tables, `priors.in`, the scripts, and `model.ptb` if the bundle has one.

    Args:
        folder: is made if it is not there.
        bundle: the model.
        system: the protein.
        positions, velocities: [N, 3] Å and Å/fs to start from.
        settings: defaults of the variables.
        scripts: folder with scripts of the user's own, used instead of those of the same name.

    Returns:
        The scripts to run.

    Raises:
        UserError: a seed that LAMMPS does not take.
    """
    if settings.seed <= 0:
        raise UserError(f"seed {settings.seed} is not positive", where="fix langevin", remedy="choose another seed")
    folder.mkdir(parents=True, exist_ok=True)
    model, ptb = bundle.model, bundle.path / PTB
    with_network = model.has_ml and ptb.is_file()
    styles = native_styles(
        model,
        bundle.params["prior"],
        system.residue_type,
        system.linked,
        exclusions="subtracted" if with_network else "special",
        network=f"chemtrain_deploy {settings.device} {settings.memory:g}" if with_network else None,
        **({} if model.has_prior else {"terms": ()}),
    )
    styles.write(folder)
    if with_network:
        shutil.copyfile(ptb, folder / PTB)
        words = f"\npair_coeff      * * chemtrain_deploy {PTB} {settings.room:g} {settings.room:g}\n"
    elif model.has_ml:
        log.warning("the scripts in %s hold the prior alone: the bundle has no %s", folder, PTB)
        words = '\nprint           "WARNING: the prior alone, the network of this model is missing (no model.ptb)"\n'
    else:
        words = ""
    with open(folder / COMMANDS, "a", encoding="ascii") as file:
        file.write(words)
    write_data_file(
        folder / DATA_FILE, system.residue_type, positions[None], velocities[None], system.type_masses, styles.items
    )
    setup = find_template(SETUP, scripts)
    values = {"ghost_A": GHOSTS_A, "skin_A": SKIN_A}
    (folder / SETUP).write_text(render(setup.read_text(encoding="utf-8"), values, setup), encoding="utf-8")
    defaults = {name: value for name, value in vars(settings).items() if name not in ("device", "memory", "room")}
    for name in SCRIPTS:
        template = find_template(name, scripts)
        text = with_defaults(template.read_text(encoding="utf-8"), {"data_file": DATA_FILE, **defaults}, template)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in SCRIPTS]


def with_defaults(template: str, values: Mapping[str, object], where: str | Path) -> str:
    """The script with the defaults of its `variable … index` lines filled in; uses of the variables stay.

    Raises:
        UserError: a variable has no value.
    """

    def fill(match: re.Match[str]) -> str:
        if match[2] not in values:
            raise UserError(
                f"no default for ${{{match[2]}}}", where=where, remedy=f"known: {', '.join(sorted(values))}"
            )
        value = values[match[2]]
        return match[1] + (f"{value:.12g}" if isinstance(value, float) else str(value))

    return _DEFAULT.sub(fill, template)
