"""Tests of cgloop.model."""
