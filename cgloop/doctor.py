"""What this machine has: each part is looked at for real, and a part that is missing says what to do."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cgloop
from cgloop import jax_environment
from cgloop.errors import UserError
from cgloop.executors.machine import usable_cores


def examine() -> str:
    """A line for each part: Python, processor, memory, disk, HDF5 locks, JAX, LAMMPS, MPI, SLURM."""
    parts: dict[str, Callable[[], str]] = {
        "cgloop": lambda: f"{cgloop.__version__} in {Path(cgloop.__file__).parent}",
        "Python": lambda: f"{platform.python_version()} on {platform.platform()}",
        "processor": _processor,
        "memory": _memory,
        "disk": _disk,
        "HDF5 locks": _hdf5_locks,
        "JAX": _jax,
        "settings": _jax_settings,
        "LAMMPS": _lammps,
        "MPI": _mpi,
        "SLURM": _slurm,
        "browser": _browser,
    }
    return "\n".join(f"{name:<11}{_line(part)}" for name, part in parts.items())


def _line(part: Callable[[], str]) -> str:
    try:
        return f"✓ {part()}"
    except UserError as error:
        return f"✗ {error}"
    except (ImportError, OSError, RuntimeError) as error:
        return f"✗ {type(error).__name__}: {' '.join(str(error).split())}"


def _processor() -> str:
    return f"{usable_cores()} of {os.cpu_count()} cores usable, {platform.machine()}"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"


def _disk() -> str:
    here = Path.cwd()
    usage = shutil.disk_usage(here)
    return f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free at {here}"


def _hdf5_locks() -> str:
    return hdf5_locks(Path.cwd())


def hdf5_locks(folder: Path) -> str:
    """Whether HDF5 can lock files on the file system of `folder`; it is tried with a small file there.

    Raises:
        UserError: it cannot. Network file systems often do not support locks; HDF5 then refuses to open files, unless
            it is told not to lock them. Nothing in cgloop relies on locks of HDF5 files.
    """
    import h5py

    setting = os.environ.get("HDF5_USE_FILE_LOCKING")
    if setting is not None and setting.upper() in ("FALSE", "0"):
        return f"switched off by HDF5_USE_FILE_LOCKING={setting}"
    handle, name = tempfile.mkstemp(prefix=".cgloop-doctor-", suffix=".h5", dir=folder)
    os.close(handle)
    try:
        with h5py.File(name, "w", locking=True) as file:
            file["x"] = 1
            held = _is_locked(name)
    except OSError as error:
        raise UserError(
            f"HDF5 cannot lock files in {folder}: {' '.join(str(error).split())}",
            remedy="export HDF5_USE_FILE_LOCKING=FALSE",
        ) from None
    finally:
        os.unlink(name)
    if not held:
        return f"taken in {folder} but not seen by others; export HDF5_USE_FILE_LOCKING=FALSE if files do not open"
    return f"work in {folder}"


def _is_locked(name: str) -> bool:
    """Whether somebody else who asks for the lock is refused: HDF5 locks with flock."""
    try:
        import fcntl
    except ImportError:  # not a Unix
        return True
    with open(name, "rb") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(other, fcntl.LOCK_UN)
        return False


def _jax() -> str:
    import jax
    import jax.numpy as jnp

    from cgloop.model.compiler_check import require_right_sums

    # A device that is listed but cannot compute is worse than none: use it.
    total = float(jnp.arange(1000.0).sum())
    if total != 499500.0:
        raise RuntimeError(f"the sum of 0..999 came out as {total}")
    require_right_sums()
    return f"{jax.__version__}, devices: {', '.join(str(device) for device in jax.devices())}"


def _jax_settings() -> str:
    """Return the variables that JAX and XLA read, with a warning for each that may change numbers."""
    shown = ", ".join(f"{name}={value}" for name, value in jax_environment.recorded().items())
    return "; ".join([shown, *jax_environment.environment_warnings()])


def _lammps() -> str:
    from cgloop.md.session import lammps_facts

    version, packages = lammps_facts()
    return f"{version}, packages: {' '.join(packages)}"


def _mpi() -> str:
    found = shutil.which("mpiexec")
    if found is None:
        raise UserError("no mpiexec on the path", remedy="only runs over several ranks need it")
    return found


def _slurm() -> str:
    found = shutil.which("sbatch")
    if found is None:
        raise UserError("no sbatch on the path", remedy="only `cgloop submit` needs it")
    return found


def _browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise UserError("no Chromium on the path", remedy="only the tests of the report need it")
    return found
