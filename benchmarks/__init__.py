"""Benchmarks; never part of the tests."""

from cgloop.allocator import keep_memory, share_memory

# As every process of cgloop that runs a model, and before there are threads.
share_memory()
keep_memory()
