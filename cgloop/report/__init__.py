"""One self-contained HTML page per run, made from the files of the run directory alone."""
