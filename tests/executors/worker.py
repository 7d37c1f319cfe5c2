"""A program for several tasks: they meet, say who they are, and wait for a request to stop if they are told to.

python -m tests.executors.worker FOLDER meet|wait|refuse
"""

import sys
import time
from pathlib import Path

from cgloop.errors import ExitCode
from cgloop.executors.world import initialize_world
from cgloop.interrupt import stop_on_signals, stop_requested


def main(folder: Path, what: str) -> int:
    with stop_on_signals():
        world = initialize_world(60)
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
        while what == "wait":
            # Only one task is asked; all stop at the same step.
            if world.any(stop_requested() and world.rank == world.size - 1):
                (folder / f"{world.rank}.stopped").touch()
                world.barrier("stopped")
                return ExitCode.INTERRUPTED
            time.sleep(0.05)
        return ExitCode.BAD_INPUT if what == "refuse" else ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
