"""Files are replaced whole, or not at all."""

import os
import stat

import pytest
import stack_files


@pytest.mark.parametrize("content", ["é\n", "é\n".encode()])
def test_content_and_mode_are_as_asked(tmp_path, content):
    path = tmp_path / "file"
    path.write_text("old and longer")
    stack_files.replace(path, content, 0o640)
    assert path.read_bytes() == "é\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_else_reads_it_before_it_is_complete(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(os, "fchmod", lambda descriptor, _: modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode)))
    stack_files.replace(tmp_path / "file", "secret", 0o644)
    assert modes == [0o600]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    def full(_):
        raise OSError("No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        stack_files.replace(path, "new", 0o644)
    assert path.read_text() == "old"


def test_secrets_differ_and_need_no_quoting():
    found = {stack_files.new_secret() for _ in range(100)}
    assert len(found) == 100
    assert all(len(secret) >= 32 and secret.replace("-", "").replace("_", "").isalnum() for secret in found)
