"""Tests of the sample back end; `make app-test` runs them in a container of it."""
