"""Force errors of a trained model on frames with reference forces."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.assess.plots import write_forces_page
from cgloop.assess.stored import Stored, find_model, open_dataset
from cgloop.checks import jsonable
from cgloop.data.dataset import SPLITS
from cgloop.errors import UserError
from cgloop.model.hybrid import energy_and_forces, prior_forces
from cgloop.model.terms import PriorParams
from cgloop.stages import write_json
from cgloop.train.evaluate import evaluate_forces, predict
from cgloop.train.loader import FrameSet
from cgloop.train.sets import force_noise, load_frames

BATCH = 64


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
    frames = load_frames(reader, split, wanted, stored.model.cutoff_A)
    if frames is None:
        where = "" if split is None else f" in the part `{split}`"
        raise UserError(f"no frames at {wanted:g} K{where}", where=reader.folder, remedy="choose another `--split`")
    forces = force_modes(stored, frames)
    full, prior = forces.pop("full"), forces.pop("prior-only")
    found = evaluate_forces(
        frames, full, prior, split=split or "all", seed=seed, more=forces, noise=force_noise(reader)
    )
    found |= {"model": str(stored.folder), "params_sha256": stored.digest, "temperature_K": wanted}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "forces.json", jsonable(found))
    write_forces_page(out / "forces.html", found, frames.reference, full)
    return found


def force_modes(stored: Stored, frames: FrameSet) -> dict[str, np.ndarray]:
    """Forces [B, 3] of the whole model and of its parts, kcal/mol/Å."""
    model, shape = stored.model, frames.shape(BATCH)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stored.params)
    whole = jax.jit(lambda p, x, g: energy_and_forces(model, p, x, g)[1])
    modes = {"full": predict(whole, params, frames, shape)}
    alone = jax.jit(partial(prior_forces, model))

    def prior(values: PriorParams) -> np.ndarray:
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), values)
        return predict(alone, {"prior": given}, frames, shape)

    own = prior(stored.params["prior"])
    modes["prior-only"] = own if stored.fitted is None else prior(stored.fitted)
    if stored.fitted is not None:
        modes["trained-prior"] = own
    if model.has_ml:
        modes["ml-only"] = modes["full"] - own
    return modes


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
    lines += ["", f"full less prior-only: {gain['value']:+.4f} ± {gain['error']:.4f} ({gain['blocks']} blocks, 95 %)"]
    modes = [mode for mode in found["modes"] if mode != "zero"]
    for title, table in (("protein", found["per_protein"]), ("residue", found["per_residue_type"])):
        lines += ["", _row(f"RMSE by {title}", [*modes, "beads"])]
        for name, one in table.items():
            lines.append(_row(name, [*(one[mode]["rmse"] for mode in modes), str(one["count"])]))
    return "\n".join(lines)


def _row(name: str, cells: list[Any]) -> str:
    shown = [cell if isinstance(cell, str) else "–" if cell is None else f"{cell:.4f}" for cell in cells]
    return f"{name:<18}" + "".join(f"{cell:>14}" for cell in shown)
