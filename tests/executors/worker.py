"""A program for several tasks: they meet, say who they are, and do what they are told.

python -m tests.executors.worker FOLDER meet|wait|refuse|break
"""

import logging
import sys
import time
from functools import partial
from pathlib import Path

from cgloop.errors import Interrupted, UserError
from cgloop.executors.launch import run_task
from cgloop.interrupt import stop_requested


def work(folder, what, world):
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), "all")
    mine = np.full(len(world.local_devices), float(world.rank + 1), np.float32)
    shared = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), mine)
    total = float(jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(shared))
    said = f"rank {world.rank} of {world.size}, {jax.device_count()} devices, sum {total:g}"
    (folder / f"{world.rank}.txt").write_text(said)
    logging.getLogger("cgloop.test").info("met %d", world.size)
    while what == "wait":
        # Only the last task is asked; all stop at the same step.
        if world.any(stop_requested() and world.rank == world.size - 1):
            # What the slowest still has to write must not be lost when the first leaves.
            time.sleep(1.0 if world.is_primary else 0.0)
            (folder / f"{world.rank}.stopped").touch()
            raise Interrupted("agreed")
        time.sleep(0.05)
    if what == "refuse" and world.rank == world.size - 1:
        raise UserError("no such shard", where="a.h5", remedy="make it")
    if what == "break" and world.is_primary:
        raise ValueError("broken on purpose")


if __name__ == "__main__":
    sys.exit(run_task(partial(work, Path(sys.argv[1]), sys.argv[2])))
