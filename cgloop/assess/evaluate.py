"""Force errors of a trained model on frames with reference forces."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.assess.plots import write_forces_page
from cgloop.assess.stored import Stored, find_model, open_dataset
from cgloop.checks import jsonable
from cgloop.config.train import TrainConfig
from cgloop.data.dataset import SPLITS
from cgloop.errors import UserError
from cgloop.executors.world import World
from cgloop.model.hybrid import energy_and_forces, prior_forces
from cgloop.model.terms import PriorParams
from cgloop.stages import write_json
from cgloop.train.evaluate import ForceTally, Predictor, evaluate_forces, predictions
from cgloop.train.files import Place
from cgloop.train.loader import FrameSet
from cgloop.train.sets import force_noise, holds_out_proteins, load_frames, place_if_needed
from cgloop.train.shards import Part

BATCH = 64
MEMORY_MB = TrainConfig().memory_MB
SHOWN_BEADS = 2_000_000


def evaluate(
    place: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    split: str | None = "test",
    temperature_K: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate, and write `forces.json` and `forces.html`.

    Args:
        place: a run, the folder of a training, or a bundle.
        out: folder, made if it is not there.
        dataset: its folder, or a run; default: what the model was trained on.
        split: part of the data set; None for all frames.
        temperature_K: of the frames; default: that of the data set.
        seed: of the bootstrap.

    Returns:
        The contents of `forces.json`, see `evaluate_forces`. `prior-only` is the prior as it was fitted; where it was
        trained with the network, `trained-prior` is the model's own.

    Raises:
        UserError: no model, no data set, or no such frames.
    """
    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split}: no such part", remedy=f"one of {', '.join(SPLITS)}, all")
    stored = find_model(place)
    reader = open_dataset(dataset, stored)
    wanted = reader.temperature_K if temperature_K is None else temperature_K
    part = Part(split, wanted, stored.model.cutoff_A)
    files = place_if_needed(reader, [part], Place(out / ".frames", MEMORY_MB, World(0, 1, ())))
    try:
        frames = load_frames(reader, part, files)
        if frames is None:
            where = "" if split is None else f" in the part `{split}`"
            raise UserError(f"no frames at {wanted:g} K{where}", where=reader.folder, remedy="choose another `--split`")
        tally, *shown = force_tally(stored, frames, holds_out_proteins(reader))
        frames.store.close()
    finally:
        if files is not None:
            shutil.rmtree(files.folder, ignore_errors=True)
    found = evaluate_forces(tally, split=split or "all", seed=seed, noise=force_noise(reader))
    found |= {"model": str(stored.folder), "params_sha256": stored.digest, "temperature_K": wanted}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "forces.json", jsonable(found))
    write_forces_page(out / "forces.html", found, *shown)
    return found


def force_tally(
    stored: Stored, frames: FrameSet, whole_proteins: bool = False
) -> tuple[ForceTally, np.ndarray, np.ndarray]:
    """What the whole model and its parts give on all frames, and forces [B, 3] of reference and model to show.

    Those to show are of evenly spaced frames, `SHOWN_BEADS` at most.
    """
    model = stored.model
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stored.params)
    alone = jax.jit(partial(prior_forces, model))

    def prior(values: PriorParams) -> Predictor:
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), values)
        return partial(alone, {"prior": given})

    predictors: dict[str, Predictor] = {
        "full": partial(jax.jit(lambda p, x, g: energy_and_forces(model, p, x, g)[1]), params)
    }
    if model.has_prior:
        predictors["own"] = prior(stored.params["prior"])
    if stored.fitted is not None:
        predictors["prior-only"] = prior(stored.fitted)
    more = [*(["trained-prior"] if stored.fitted is not None else []), *(["ml-only"] if model.has_ml else [])]
    tally = ForceTally(frames, ["full", "prior-only", "zero", *more], whole_proteins)
    step, shown = -(-frames.n_beads // SHOWN_BEADS), []
    for chosen, forces in predictions(list(predictors.values()), frames, frames.shape(BATCH)):
        found = dict(zip(predictors, forces, strict=True))
        zero = np.zeros_like(found["full"])
        own = found.get("own", zero)
        tally.add(
            chosen,
            {"prior-only": own, **found, "zero": zero, "trained-prior": own, "ml-only": found["full"] - own},
        )
        some = np.repeat(chosen % step == 0, frames.beads.counts[chosen])
        shown.append((frames.store.reference(chosen)[some], found["full"][some]))
    reference, full = (np.concatenate(parts) for parts in zip(*shown, strict=True))
    return tally, reference, full


def as_text(found: dict[str, Any]) -> str:
    """The tables that `cgloop evaluate` prints."""
    lines = [
        f"{found['n_frames']} frames ({found['split']}, {found['temperature_K']:g} K), {found['n_beads']} beads; "
        "RMSE and MAE in kcal/mol/Å",
        "",
        _row("", ["RMSE", "MAE", "cosine", "R²", "explained"]),
    ]
    for mode, one in found["modes"].items():
        lines.append(_row(mode, [*(one[key] for key in ("rmse", "mae", "cosine", "r2")), found["explained"][mode]]))
    if found["noise"] is not None:
        lines.append(f"noise of the mapped forces: {found['noise']:.3f}; `explained` is of what is not noise")
        if found["rmse_full"] < found["noise"]:
            lines.append("the estimate of the noise is one from above: the model's error is below it")
    gain = found["full_minus_prior"]
    from_what = f"{gain['blocks']} {gain['resampled']}, 95 %"
    lines += ["", f"full less prior-only: {gain['value']:+.4f} ± {gain['error']:.4f} ({from_what})"]
    modes = [mode for mode in found["modes"] if mode != "zero"]
    for title, table in (("protein", found["per_protein"]), ("residue", found["per_residue_type"])):
        lines += ["", _row(f"RMSE by {title}", [*modes, "beads"])]
        for name, one in table.items():
            lines.append(_row(name, [*(one[mode]["rmse"] for mode in modes), str(one["count"])]))
    return "\n".join(lines)


def _row(name: str, cells: list[Any]) -> str:
    shown = [cell if isinstance(cell, str) else "–" if cell is None else f"{cell:.4f}" for cell in cells]
    return f"{name:<18}" + "".join(f"{cell:>14}" for cell in shown)
