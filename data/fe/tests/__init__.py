"""Tests of the sample front end; `make app-test` runs them in a container of it."""
