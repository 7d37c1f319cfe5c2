"""Processor time of every test, which unlike `--durations` does not depend on what else the machine does.

Time of processes that a test started counts once they have been waited for. What a fixture takes counts for the
test that needed it first.
"""

import resource
from collections import defaultdict
from collections.abc import Iterator

import pytest

PROPERTY = "processor_s"
OF_WORKER = "processor_s_of_worker"


def processor_s() -> float:
    """Seconds that this process and the ended processes below it have computed."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


class Recorder:
    """Runs where tests run: adds to each report of a test what its phase took."""

    def __init__(self, config: pytest.Config):
        self._config = config
        self._began = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._began = processor_s()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report = yield
        if report.when == "teardown":
            report.user_properties = [*report.user_properties, (PROPERTY, round(processor_s() - self._began, 2))]
        return report

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[OF_WORKER] = processor_s()


class Table:
    """Runs where reports arrive: prints the dearest tests and files, and what was no test's."""

    def __init__(self, rows: int):
        self._rows = rows
        self._tests: dict[str, float] = {}
        self._workers: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        took = dict(report.user_properties).get(PROPERTY)
        if isinstance(took, float):
            self._tests[report.nodeid] = took

    def pytest_testnodedown(self, node: object) -> None:
        name = getattr(getattr(node, "gateway", None), "id", "worker")
        self._workers[name] = getattr(node, "workeroutput", {}).get(OF_WORKER, 0.0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._rows:
            return
        files: defaultdict[str, float] = defaultdict(float)
        for name, seconds in self._tests.items():
            files[name.partition("::")[0]] += seconds
        total = sum(self._tests.values())
        rest = sum(self._workers.values() or [processor_s()]) - total
        terminalreporter.write_sep("=", f"processor time of {len(self._tests)} tests: {total:.0f} s")
        terminalreporter.write_line(f"{rest:8.1f} s  collecting tests and starting workers")
        for found in (self._tests, files):
            for name, seconds in sorted(found.items(), key=lambda one: -one[1])[: self._rows]:
                terminalreporter.write_line(f"{seconds:8.1f} s  {name}")
            terminalreporter.write_line("")


def register(config: pytest.Config) -> None:
    """Record in each process that runs tests; print in the one that has a terminal."""
    config.pluginmanager.register(Recorder(config), "processor-time")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(config.getoption("--processor-time")), "processor-time-table")
