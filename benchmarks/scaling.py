"""Frames per second of a training on 1 and 2 devices: python -m benchmarks.scaling

Every point is a process of its own. Without accelerators the devices are virtual ones of this machine's processor,
which share its cores; then one device may already use them all. Batches of 16 frames, as many in all (strong scaling).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = (("nano", 10), ("nano", 20), ("lean", 20), ("nano", 100))
REPEATS, EPOCHS = 3, 3


def point(preset: str, n_beads: int) -> dict[str, float]:
    """Train on all devices of this process; steady state, compilation aside."""
    import jax

    from benchmarks.training import chain_sets, learner, trainer

    with tempfile.TemporaryDirectory() as folder:
        sets = chain_sets(Path(folder), n_beads, "memory")
        result = trainer(learner(preset, sets[0]), sets, Path(folder) / "train", seed=1, epochs=EPOCHS).run()
    return {"devices": jax.device_count(), "frames_per_s": result.timing["frames_per_s"]}


def measure(preset: str, n_beads: int, devices: int) -> float:
    """Frames per second, by a fresh process."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "benchmarks.scaling", preset, str(n_beads)]
    done = subprocess.run(
        command, env={**os.environ, "XLA_FLAGS": flags}, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == devices
    return float(found["frames_per_s"])


def main() -> None:
    print("preset  beads  frames/s on 1 (median, range)    on 2    speedup")
    for preset, n_beads in CASES:
        runs = [[measure(preset, n_beads, devices) for devices in (1, 2)] for _ in range(REPEATS)]
        one, two = (sorted(run[i] for run in runs) for i in (0, 1))
        ratio = statistics.median(b / a for a, b in runs)
        print(
            f"{preset:6s} {n_beads:6d}  {one[1]:8.0f} ({one[0]:.0f} to {one[-1]:.0f})  "
            f"{two[1]:8.0f} ({two[0]:.0f} to {two[-1]:.0f})  {ratio:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(point(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
