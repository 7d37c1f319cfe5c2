"""The stage `export` of a trained model: time, size of the files, and how long loading and compiling take."""

import shutil
import time

import numpy as np

from cgloop.export.bundle import load_bundle
from cgloop.export.stage import export_stage
from cgloop.md.evaluate import compile_model
from cgloop.md.system import start_frames
from cgloop.model.graph import build_graph
from cgloop.rundir import RunDirectory, read_run


def test_export(benchmark, keep, finished_run, tmp_path):
    config, _ = read_run(finished_run)
    run, out = RunDirectory(finished_run), tmp_path / "bundle"

    def export():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        priors = run.stage(0, "priors") / "priors.yaml"
        export_stage(config, run.stage(0, "prep"), run.stage(0, "train"), priors, out)

    keep.times("whole stage", export, rounds=3)
    sizes = {file.name: file.stat().st_size / 1e6 for file in out.iterdir()}
    keep("size of the bundle", "MB", [sum(sizes.values())], facts=sizes, files=len(sizes))


def test_load_and_compile(benchmark, keep, finished_run):
    from cgloop.bench.subject import measured_protein

    config, _ = read_run(finished_run)
    run = RunDirectory(finished_run)
    reader, system = measured_protein(config, run.stage(0, "prep"))
    frames = start_frames(reader, system.name, config.data.temperature_K, 1).positions
    graph = build_graph(system.residue_type, system.linked, frames, config.model.cutoff_A)
    flat = frames.reshape(-1, 3).astype(np.float32)
    loads, compiles = [], []

    def once():
        start = time.perf_counter()
        bundle = load_bundle(run.stage(0, "export"))
        loads.append(time.perf_counter() - start)
        start = time.perf_counter()
        compiled = compile_model(bundle.function, bundle.cutoff_A).function
        compiled.lower(flat, graph, system.bond_mean_A.astype(np.float32)).compile()
        compiles.append(time.perf_counter() - start)

    benchmark.pedantic(once, rounds=3)
    keep("load and check", "s", loads)
    keep("compile", "s", compiles, beads=system.n_beads)
