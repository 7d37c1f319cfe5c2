"""Fixtures that every room shares."""

import importlib.metadata
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from tests import order, processor_time

# The same examples in every run: what a random one finds shall not fail somebody else's change. To look for more:
# `pytest --hypothesis-profile=search`.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False, max_examples=500)
settings.load_profile("same")

REPOSITORY = Path(__file__).resolve().parent.parent


class FailuresAtOnce:
    """What failed, as soon as it has failed: a run that is ended from outside never comes to its summary."""

    def __init__(self, terminal: pytest.TerminalReporter):
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line("")
            self._terminal.write_sep("_", f"{report.nodeid} ({report.when}, {report.duration:.0f} s)")
            self._terminal.write_line(report.longreprtext)


QUICK_COMPILER = {
    "--xla_backend_optimization_level": "0",
    "--xla_cpu_use_fusion_emitters": "false",
}
"""XLA flags that halve the processor time of a short run of the whole loop, in which compiling takes most; programs
take up to twice as long. Results differ in their rounding. `make demo` runs with the defaults of XLA."""
TRIED_JAXLIB = "0.10.1"
"""Another XLA may not know the flags, and ends a process that is given an unknown one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failures-at-once", action="store_true", help="print each failure when it happens, too")
    parser.addoption("--processor-time", type=int, default=0, metavar="N", help="print the N dearest tests and files")


def pytest_sessionstart(session: pytest.Session) -> None:
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--failures-at-once") and terminal is not None:
        session.config.pluginmanager.register(FailuresAtOnce(terminal))


def pytest_configure(config: pytest.Config) -> None:
    """Keep what JAX compiled: tests, and the processes they start, mostly compile what an earlier one did.

    Set before JAX is imported; `--cache-clear` forgets it. Processes that share the tests share it.
    """
    folder = config.cache.mkdir("jax") if config.pluginmanager.has_plugin("cacheprovider") else _own_cache(config)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    # Programs that compile in a moment, too: importing jax-md alone compiles over a hundred of them.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # Their folder is an option of the compiler, and would make entries those of one folder alone.
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
    if importlib.metadata.version("jaxlib") == TRIED_JAXLIB:
        _compile_quickly()
    processor_time.register(config)


def _compile_quickly() -> None:
    """Add `QUICK_COMPILER` to the flags of XLA, without those that are set already."""
    given = os.environ.get("XLA_FLAGS", "").split()
    named = {flag.partition("=")[0] for flag in given}
    added = [f"{flag}={value}" for flag, value in QUICK_COMPILER.items() if flag not in named]
    os.environ["XLA_FLAGS"] = " ".join([*given, *added])


def _own_cache(config: pytest.Config) -> Path:
    """A folder of this call alone, where pytest keeps nothing between calls (`-p no:cacheprovider`)."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") if hasattr(config, "workerinput") else None
    if folder is None:
        holder = TemporaryDirectory(prefix="jax-cache-")
        config.add_cleanup(holder.cleanup)
        folder = holder.name
    return Path(folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> order.Groups | None:
    return order.Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.arrange(items)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def example_h5() -> Path:
    """The shipped all-atom MD of CLN025 at 320 K, mdCATH layout."""
    return REPOSITORY / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
