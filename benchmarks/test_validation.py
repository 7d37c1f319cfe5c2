"""The stage `validate`, in seconds for 10,000 frames of dynamics."""

import time

from cgloop.md.merge import read_outcomes
from cgloop.pipeline import BY_NAME, context_of
from cgloop.rundir import RunDirectory, read_run


def test_validation(benchmark, keep, finished_run, tmp_path):
    config, _ = read_run(finished_run)
    run = RunDirectory(finished_run)
    context, seconds = context_of(config, run, 0), []

    def validate():
        out = tmp_path / f"validate{len(seconds)}"
        out.mkdir()
        start = time.perf_counter()
        BY_NAME["validate"].work(context, out)
        seconds.append(time.perf_counter() - start)

    benchmark.pedantic(validate, rounds=2)
    frames = 0
    for protein in [path for path in run.stage(0, "md").iterdir() if (path / "nvt").is_dir()]:
        replicas = len(read_outcomes(protein / "nvt"))
        frames += replicas * round((config.md.nvt.length_ps + config.md.nve.length_ps) / config.md.dump_every_ps)
    facts = {"frames": frames, "whole stage_s": min(seconds)}
    keep("checks, plots and controls", "s per 10,000 frames", [1e4 * one / frames for one in seconds], facts=facts)
