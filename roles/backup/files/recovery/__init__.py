"""Backups of the database, and what brings them back. Runs on the host, beside the engine, without the playbook."""
