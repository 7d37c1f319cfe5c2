"""One job: a source, or the sources of one protein, to finished files of the data set.

A job works in a folder of its own and writes `result.json` there last, with the digest of everything it depended on
and of every file it made. So an interrupted run finds what is done, and does the rest.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cgloop
from cgloop.config.data import DataConfig, SourceConfig
from cgloop.config.neutral import without_neutral
from cgloop.data.sources import describe_source
from cgloop.data.splits import part_of
from cgloop.errors import UserError
from cgloop.prep.reference import Frames, Reference, Trajectory
from cgloop.prep.stream import ProteinResult, prepare_protein
from cgloop.progress import Progress, progress
from cgloop.stages import digest_file, digest_of, write_json

RESULT = "result.json"

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Job:
    """What one job is to do.

    Attributes:
        sources: files that make one or more proteins; all of one format.
        config: the section `data`, less its sources.
        folder: where it works.
        alone: it may show its own progress.
    """

    sources: tuple[SourceConfig, ...]
    config: DataConfig
    folder: Path
    alone: bool = False

    @property
    def label(self) -> str:
        """Names of its files, for messages and the manifest."""
        return ", ".join(source.path.name for source in self.sources)


@dataclass(frozen=True)
class JobResult:
    """What a job did: its proteins, and sha256 of their files in the job's folder."""

    proteins: list[ProteinResult]
    files: dict[str, str] = field(default_factory=dict)


def make_jobs(sources: Sequence[SourceConfig], config: DataConfig, folder: Path) -> list[Job]:
    """Jobs for these sources: one a file; trajectories read by MDAnalysis, and mdCATH files that several entries of
    `data.sources` name, go together by protein name."""
    together: dict[str, list[SourceConfig]] = {}
    # Files of one pattern are different proteins; opening thousands of them to see that would take minutes.
    several = len({source.path for source in config.sources}) > 1
    for index, source in enumerate(sources):
        name = f"file {index}"
        if source.format == "mdanalysis":
            name = f"protein {mda_name(source)}"
        elif source.format == "mdcath" and several and (found := mdcath_name(source.path)):
            name = f"mdcath {found}"
        together.setdefault(name, []).append(source)
    groups = [tuple(group) for group in together.values()]
    # Named by what they work on, so that finished jobs are found again when the list of sources has changed.
    keys = [digest_of([_neutral_source(source.read_from) for source in group])[:16] for group in groups]
    names = [f"{key}-{keys[:index].count(key)}" for index, key in enumerate(keys)]
    return [Job(group, config, folder / name, len(groups) == 1) for group, name in zip(groups, names, strict=True)]


def mda_name(source: SourceConfig) -> str:
    """The protein's name of a source that MDAnalysis reads."""
    return source.name or (source.topology or source.path).stem


def mdcath_name(path: Path) -> str | None:
    """The protein's name of an mdCATH file; None where it cannot be told, of which reading it says more."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names = [name for name, item in file.items() if isinstance(item, h5py.Group)]
    except OSError:
        return None
    return names[0] if len(names) == 1 else None


def run_job(job: Job) -> JobResult:
    """Do a job, or find it done.

    Raises:
        UserError: the source cannot be used.
        Interrupted: a stop was requested.
    """
    inputs = _inputs(job)
    done = _find_done(job, inputs)
    if done is not None:
        return done
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    try:
        proteins = list(_prepare(job, inputs))
    except BaseException:
        shutil.rmtree(job.folder, ignore_errors=True)
        raise
    files = {path.name: digest_file(path) for path in sorted(job.folder.glob("*.h5"))}
    result = JobResult(proteins, files)
    write_json(job.folder / RESULT, {"inputs": digest_of(inputs), **asdict(result)})
    return result


def _inputs(job: Job) -> dict[str, Any]:
    """Everything the result depends on, sources by their content."""
    settings = job.config.model_dump(mode="json", exclude={"sources", "workers", "on_bad_file"})
    if job.config.split.by == "protein":
        # Of the division of proteins a job depends only on the part of its own, which is compared by itself.
        settings["split"] = {key: settings["split"][key] for key in ("by", "min_frames")}
    sources = [_neutral_source(describe_source(source)) for source in job.sources]
    return {"settings": without_neutral(settings, "data"), "sources": sources, "cgloop": cgloop.__version__}


def _neutral_source(source: dict[str, Any]) -> dict[str, Any]:
    """A source as it enters digests."""
    return without_neutral(source, "data.sources")


def _find_done(job: Job, inputs: dict[str, Any]) -> JobResult | None:
    try:
        known = json.loads((job.folder / RESULT).read_text())
        result = JobResult([ProteinResult(**one) for one in known["proteins"]], known["files"])
        whole = known["inputs"] == digest_of(inputs) and all(
            digest_file(job.folder / name) == digest for name, digest in result.files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    split = job.config.split
    same_parts = split.by != "protein" or all(one.part == part_of(one.name, split) for one in result.proteins)
    return result if whole and same_parts else None


def _prepare(job: Job, inputs: dict[str, Any]) -> Iterator[ProteinResult]:
    first = job.sources[0]
    digests = [source["path_digest"] for source in inputs["sources"]]
    attributes = {
        "mapping": job.config.mapping,
        "projection": job.config.projection,
        "temperature_K": job.config.temperature_K,
        "source": job.label,
        "source_sha256": digests[0] if len(digests) == 1 else digest_of(digests),
        "stride": first.stride,
    }
    for reference, trajectories in open_references(job):
        if not SAFE_NAME.fullmatch(reference.name):
            raise UserError(f"protein id `{reference.name}` cannot be a file name", where=reference.path)
        frames = Frames(first.start, first.stop, first.stride)
        total = sum(len(frames.of(t.n_frames)) for t in trajectories)
        with _shown(job, reference.name, total) as advance:
            out = job.folder / f"{reference.name}.h5"
            yield prepare_protein(reference, trajectories, frames, job.config, out, attributes, advance)


def open_references(job: Job) -> Iterator[tuple[Reference, Sequence[Trajectory]]]:
    """The proteins of a job's files, open while each is worked on, with the trajectories that are wanted."""
    first, model_K = job.sources[0], job.config.temperature_K
    if first.format == "mdcath":
        from cgloop.prep.mdcath_files import opened_together

        with opened_together(job.sources, model_K) as (file, trajectories):
            yield file, trajectories
    elif first.format == "mdanalysis":
        from cgloop.prep.trajectory import MdaReference

        with MdaReference(job.sources, mda_name(first), model_K, scratch=job.folder) as system:
            yield system, system.trajectories
    else:
        from cgloop.data.npz import opened_npz
        from cgloop.prep.npz_source import NpzReference

        with opened_npz(first.path, scratch=job.folder) as archive:
            for index in range(len(archive.proteins)):
                protein = NpzReference(
                    archive,
                    index,
                    first.temperature_K or model_K,
                    first.replica,
                    forces=first.target == "forces",
                    relaxation_frames=first.relaxation_frames,
                )
                yield protein, protein.trajectories


@contextmanager
def _shown(job: Job, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
    if not job.alone:
        yield lambda read, kept: None
        return
    with progress(f"prep {name}", total, "frames") as bar:
        yield lambda read, kept: _advance(bar, read, kept)


def _advance(bar: Progress, read: int, kept: int) -> None:
    bar.advance(read, kept=kept)
