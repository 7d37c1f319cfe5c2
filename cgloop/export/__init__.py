"""From parameters to a bundle: one compiled function and what describes it."""
