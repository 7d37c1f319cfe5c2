"""A file of measurements: what was measured, on what, while the machine did what else."""

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

import cgloop
from cgloop.errors import UserError
from cgloop.executors.machine import memory_GB, usable_cores
from cgloop.stages import digest_of, versions, write_json

SCHEMA = 1
"""Version of the files; a reader refuses newer ones."""

Setting = bool | int | float | str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Machine(_Part):
    """What it was measured on.

    Attributes:
        processor: its name, and family and model where the name alone says little.
        cores: that the process may use; 0 where it is not known.
        memory_GB: of the machine; 0 where it is not known.
        accelerators: names of the GPUs that JAX computes on; empty on a processor.
    """

    processor: str
    cores: int = Field(ge=0)
    memory_GB: float = Field(ge=0)
    accelerators: tuple[str, ...] = ()

    @property
    def kind(self) -> tuple[str, int, tuple[str, ...]]:
        """Equal for machines whose times may be compared."""
        return self.processor, self.cores, self.accelerators

    @property
    def words(self) -> str:
        """For people."""
        parts = [self.processor] if not self.cores else [f"{self.cores} cores of {self.processor}"]
        parts += [f"{self.memory_GB:.0f} GB"] if self.memory_GB else []
        names = sorted(set(self.accelerators))
        return ", ".join([*parts, *(f"{self.accelerators.count(name)} × {name}" for name in names)])


class Load(_Part):
    """What else the machine did.

    Attributes:
        average: load average over a minute, before and after.
        others_cores: mean number of cores that were busy with anything but the measured process and its children;
            None where the system does not tell.
        seconds: that this is about.
    """

    average: tuple[FiniteFloat, FiniteFloat]
    others_cores: FiniteFloat | None
    seconds: FiniteFloat

    @property
    def words(self) -> str:
        """For people."""
        text = f"load average {self.average[0]:.1f} before, {self.average[1]:.1f} after"
        return text if self.others_cores is None else f"{text}, {self.others_cores:.1f} cores busy with other work"


class Measurement(_Part):
    """One quantity at one setting.

    Attributes:
        name: what was measured, as `model/energy and forces`.
        settings: at which it was, as {"preset": "nano", "beads": 20}.
        unit: of the values.
        values: one per repeat.
        better: whether a lower or a higher value is better; `neither` for what is only counted.
        independent: whether each repeat had a process of its own, so that their spread holds between processes, too.
        facts: told beside it, never compared.
        load: of each repeat, or one for all.
    """

    name: str
    settings: dict[str, Setting] = {}
    unit: str
    values: tuple[FiniteFloat, ...] = Field(min_length=1)
    better: Literal["lower", "higher", "neither"] = "lower"
    independent: bool = False
    facts: dict[str, Setting] = {}
    load: tuple[Load, ...] = ()

    @property
    def key(self) -> str:
        """Equal for measurements of the same thing."""
        return f"{self.name} {json.dumps(self.settings, sort_keys=True)} {self.unit}"

    @property
    def median(self) -> float:
        ordered, half = sorted(self.values), len(self.values) // 2
        return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])

    @property
    def label(self) -> str:
        """Name and settings, for people."""
        told = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.name} ({told})" if told else self.name


class Record(_Part):
    """A file of measurements.

    Attributes:
        schema_: version of this form.
        suite: what belongs together, as `model`, `scaling`.
        date: of the measurements, ISO.
        made_by: the command.
        note: what a reader has to know.
        commit: of the sources; ends in `+` if they were changed; empty where it is not known.
        config: of the run that was measured, or what was asked for, as plain data.
    """

    schema_: int = Field(SCHEMA, alias="schema")
    suite: str
    date: str
    made_by: str
    note: str = ""
    machine: Machine
    versions: dict[str, str] = {}
    commit: str = ""
    config: dict[str, Any] = {}
    load: Load | None = None
    measurements: tuple[Measurement, ...] = ()

    def find(self, key: str) -> Measurement | None:
        """The measurement with this `key`."""
        return next((one for one in self.measurements if one.key == key), None)

    def with_measurement(self, new: Measurement) -> "Record":
        """With it at the end, or in the place of an older one of the same thing."""
        kept = [new if one.key == new.key else one for one in self.measurements]
        if new.key not in {one.key for one in self.measurements}:
            kept.append(new)
        return self.model_copy(update={"measurements": tuple(kept)})

    @property
    def origin(self) -> str:
        """Equal for files that one measurement may be spread over: machine, sources, versions, config."""
        return digest_of([self.machine.kind, self.commit, self.versions, self.config])


def start_record(suite: str, made_by: str, config: dict[str, Any], machine: Machine, note: str = "") -> Record:
    """A record of today and of this state of the sources, without measurements.

    Of files that the config names, their place on this machine is left out: records are made to be shown around.
    """
    plain = _without_places(json.loads(json.dumps(config, default=str)))
    return Record(
        suite=suite, date=str(date.today()), made_by=made_by, note=note, machine=machine, versions=versions(),
        commit=commit(), config=plain,
    )  # fmt: skip


def _without_places(value: Any) -> Any:
    """The same with absolute paths cut down to what is below the working directory, or else to the file's name."""
    if isinstance(value, dict):
        return {name: _without_places(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    if isinstance(value, str) and (path := Path(value)).is_absolute():
        return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name
    return value


def this_machine(accelerators: Sequence[str] = ()) -> Machine:
    """What this process runs on; JAX is not asked."""
    return Machine(
        processor=_processor(), cores=usable_cores(), memory_GB=round(memory_GB(), 1), accelerators=tuple(accelerators)
    )


def accelerators() -> tuple[str, ...]:
    """Names of the GPUs that JAX computes on in this process; empty on a processor."""
    import jax

    return tuple(one.device_kind for one in jax.devices() if one.platform != "cpu")


def _processor() -> str:
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    if "model name" not in found:
        return platform.processor() or platform.machine()
    # Virtual machines hide the name, `AMD EPYC` for several generations of different speed.
    return f"{found['model name']} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"


def commit() -> str:
    """Of the sources that run; empty if they are no checkout."""
    folder = Path(cgloop.__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not (folder / ".git").exists():
            return ""
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@contextmanager
def watched_load() -> Iterator[list[Load]]:
    """Watch what the machine does while the body runs; the list holds a `Load` afterwards.

    Work of children counts as ours when they have ended in the body.
    """
    found: list[Load] = []
    began, average, busy, own = time.monotonic(), os.getloadavg()[0], _busy_s(), _own_s()
    try:
        yield found
    finally:
        seconds, now = time.monotonic() - began, _busy_s()
        others = None
        if busy is not None and now is not None and seconds > 0:
            others = max(0.0, round((now - busy - (_own_s() - own)) / seconds, 2))
        found.append(
            Load(
                average=(round(average, 2), round(os.getloadavg()[0], 2)),
                others_cores=others,
                seconds=round(seconds, 2),
            )
        )


def _busy_s() -> float | None:
    """Core-seconds that this machine was busy since it started."""
    with suppress(OSError, ValueError, IndexError):
        fields = [int(text) for text in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:8]]
        user, nice, system, _idle, _iowait, irq, softirq = fields
        return float(user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return None


def _own_s() -> float:
    """Core-seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def write_record(path: Path, record: Record) -> None:
    """Write it atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record.model_dump(mode="json", by_alias=True))


def read_record(path: Path) -> Record:
    """Read a file of measurements: of this form, of an older one, or a `scaling_data.csv` of the older pipeline.

    Raises:
        UserError: it is none of these.
    """
    from cgloop.bench import older

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=path) from None
    if Path(path).suffix == ".csv":
        return older.from_csv(text, path)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UserError(f"is no JSON: {error}", where=path) from None
    if not isinstance(data, dict):
        raise UserError("is no record of measurements", where=path)
    if "schema" not in data:
        return older.from_json(data, path)
    if data["schema"] != SCHEMA:
        raise UserError(f"has schema {data['schema']}, and this cgloop reads {SCHEMA}", where=path, remedy="update it")
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"is no record of measurements: {place}: {first['msg']}", where=path) from None
