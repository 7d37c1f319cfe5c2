"""The folder `plain/` of a deployed model: what a plain `lmp` runs, for every protein that was simulated."""

from pathlib import Path

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import load_bundle
from cgloop.export.chemtrain_deploy import CHECKED, PTB
from cgloop.md.job import read_system
from cgloop.md.noise import Noise
from cgloop.md.plain import PlainSettings, write_plain_inputs
from cgloop.md.plan import noise_seed, plan_nvt
from cgloop.md.system import simulated_proteins
from cgloop.md.thermostat import LAMMPS_SEEDS, maxwell_velocities, remove_net_momentum

README = "README.md"


def write_deployed_plain(config: Config, bundle_dir: Path, dataset_dir: Path, out: Path) -> None:
    """Write a folder for each protein, each complete by itself, and a README beside them.

    Args:
        config: section `md`, the temperature, the seed.
        bundle_dir: the model.
        dataset_dir: native structures, which they start from.
        out: is made.
    """
    bundle, reader = load_bundle(bundle_dir), DatasetReader.open(dataset_dir)
    out.mkdir(parents=True)
    names = simulated_proteins(reader, config.md, config.data.temperature_K)
    for name in names:
        system, seed = read_system(config, reader, name), noise_seed(config.run.seed, name)
        frame = system.native.astype(float) - system.native.mean(axis=0)
        noise = Noise(seed, [0], system.n_beads, "velocities")
        drawn = maxwell_velocities(noise, system.masses, config.md_temperature_K)
        clock = plan_nvt(config.md, config.md_temperature_K, system.n_beads, seed).clock
        settings = PlainSettings(
            config.md_temperature_K, config.md.nvt.friction_per_ps, config.md.timestep_fs,
            1 + seed % (LAMMPS_SEEDS - 1), clock.equilibration_steps, clock.steps, device=config.md.lmp_device,
        )  # fmt: skip
        velocities = remove_net_momentum(drawn, system.masses)[0]
        write_plain_inputs(out / name, bundle, system, frame, velocities, settings)
    network = bundle.model.has_ml and (bundle.path / PTB).is_file()
    (out / README).write_text(_readme(names, network=network, complete=network or not bundle.model.has_ml))


def _readme(names: list[str], *, network: bool, complete: bool) -> str:
    needs = "Any LAMMPS with the packages MOLECULE and EXTRA-MOLECULE."
    if network:
        needs = (
            "A LAMMPS with the packages MOLECULE and EXTRA-MOLECULE, and with chemtrain-deploy's plugin\n"
            f"(`pair_style chemtrain_deploy`), which reads `{PTB}`. That file was checked {CHECKED}: look at\n"
            "the first energies before you trust a run. The device is in the line `pair_style` of `priors.in`."
        )
    elif not complete:
        needs += f"\n\n**The prior alone: the network is missing, since the bundle has no `{PTB}`.**"
    return f"""# The model under a plain `lmp`

One folder a protein ({", ".join(names)}), each complete by itself and without Python; one replica a run.

    cd {names[0]}
    lmp -in plain_minimize.in
    lmp -in plain_nvt.in -var data_file minimized.data -var seed 7 -var steps 50000
    lmp -in plain_nvt.in -var restart_file final.restart -var seed 8 -var steps 60000    # goes on
    lmp -in plain_nve.in -var steps 50000

{needs}

`system.data` holds the native structure, and velocities at the temperature. `minimized.data`, which LAMMPS writes, has
none that are thermal: `fix langevin` brings them there within a few times 1/friction. `priors.in` and the tables are
the prior terms as LAMMPS's own styles, for this protein only. Every variable is named at the top of each script.

Nothing watches these runs: limits, crash records and exact restarts are those of `cgloop md`.
"""
