"""What the tests keep of JAX's compilations cannot change a result, whatever state a killed process left it in."""

import os
import subprocess
import sys

import numpy as np

PROGRAM = """
import sys
import jax
import numpy as np
x = np.linspace(0.0, 1.0, 7)
np.save(sys.argv[1], jax.jit(lambda x: jax.numpy.sin(x) @ jax.numpy.cos(x[:, None]) + 3.0 * x)(x))
"""


def computed(folder, out):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(out), done.stderr


def test_an_entry_that_was_not_written_to_its_end_is_compiled_anew(tmp_path):
    """JAX writes entries in place: a process that is killed may leave a part of one, or an empty one."""
    folder = tmp_path / "cache"
    right, _ = computed(folder, tmp_path / "first.npy")
    entries = [path for path in folder.iterdir() if path.name.endswith("-cache")]
    assert entries
    for length in (lambda size: size // 2, lambda size: size - 1, lambda size: 0):
        for path in entries:
            path.write_bytes(path.read_bytes()[: length(path.stat().st_size)])
        again, said = computed(folder, tmp_path / "again.npy")
        np.testing.assert_array_equal(again, right)
        assert "Error reading persistent compilation cache entry" in said
