"""The module config_tree on real folders."""

import stat

import config_tree
import config_tree_action
import pytest
import stack_survey


def parameters(tmp_path, files, **more):
    full = [{"mode": "0644", **file} for file in files]
    rest = {"directories": [], "secrets": {}, "checks": [], "lock_timeout": 0, **more}
    return {"path": str(tmp_path / "tree"), "files": full, **rest}


def converge(values, check_mode=False):
    return config_tree.converge(values, check_mode, privileged=False)


def test_second_run_changes_nothing(tmp_path):
    values = parameters(tmp_path, [{"path": "a/b.conf", "content": "text"}])
    assert converge(values)["changed_files"] == ["a/b.conf"]
    assert (tmp_path / "tree/a/b.conf").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "tree").stat().st_mode) == 0o700
    assert not converge(values)["changed"]


def test_wrong_mode_is_corrected(tmp_path):
    values = parameters(tmp_path, [{"path": "b.conf", "content": "text", "mode": "0600"}])
    converge(values)
    (tmp_path / "tree/b.conf").chmod(0o644)
    assert converge(values)["changed"]
    assert stat.S_IMODE((tmp_path / "tree/b.conf").stat().st_mode) == 0o600


def test_check_mode_writes_nothing(tmp_path):
    values = parameters(tmp_path, [{"path": "b.conf", "content": "text"}])
    assert converge(values, check_mode=True)["changed"]
    assert not (tmp_path / "tree").exists()


def test_failed_check_changes_nothing(tmp_path):
    first = parameters(tmp_path, [{"path": "a", "content": "old"}, {"path": "b", "content": "old"}])
    converge(first)
    check = {"name": "The file", "paths": ["b"], "argv": ["grep", "--quiet", "old", "{tree}/b"]}
    wrong = parameters(tmp_path, [{"path": "a", "content": "new"}, {"path": "b", "content": "new"}], checks=[check])
    with pytest.raises(config_tree.RefusalError, match="The file is not valid, nothing was changed"):
        converge(wrong)
    files = {p.name: p.read_text() for p in (tmp_path / "tree").iterdir()}
    assert {name: text for name, text in files.items() if name != ".lock"} == {"a": "old", "b": "old"}


def test_failed_check_says_the_cause_alone(tmp_path):
    """As mysqld says it (MySQL 9.7)."""
    said = ["0 [ERROR] [MY-000067] [Server] unknown variable 'a=1'.", "0 [ERROR] [MY-010119] [Server] Aborting"]
    argv = ["sh", "-c", 'printf "%s\n" "$@"; exit 1', "sh", "0 [Warning] Something else", *said]
    check = {"name": "The file", "paths": ["b"], "argv": argv, "cause": "[ERROR]"}
    with pytest.raises(config_tree.RefusalError) as refusal:
        converge(parameters(tmp_path, [{"path": "b", "content": "x"}], checks=[check]))
    assert str(refusal.value) == f"The file is not valid, nothing was changed: {said[0]}"


def test_check_of_other_files_is_not_run(tmp_path):
    check = {"name": "Another", "paths": ["z"], "argv": ["false"]}
    assert converge(parameters(tmp_path, [{"path": "a", "content": "x"}], checks=[check]))["changed"]


def test_secret_is_made_once_and_shared(tmp_path):
    files = [{"path": "one", "secret": "password"}, {"path": "two", "secret": "password"}]
    values = parameters(tmp_path, files, secrets={"password": ""})
    result = converge(values)
    first = (tmp_path / "tree/one").read_text()
    assert len(first) >= 32
    assert (tmp_path / "tree/two").read_text() == first
    assert first not in str(result)
    assert not converge(values)["changed"]
    (tmp_path / "tree/two").unlink()
    converge(values)
    assert (tmp_path / "tree/two").read_text() == first


def test_another_value_for_a_secret_in_use_is_refused(tmp_path):
    files = [{"path": "one", "secret": "password"}]
    converge(parameters(tmp_path, files, secrets={"password": "given"}))
    assert (tmp_path / "tree/one").read_text() == "given"
    with pytest.raises(config_tree.RefusalError, match="differs from the one"):
        converge(parameters(tmp_path, files, secrets={"password": "other"}))


def test_empty_secret_content_keeps_what_is_there(tmp_path):
    converge(parameters(tmp_path, [{"path": "key", "secret_content": "private"}]))
    result = converge(parameters(tmp_path, [{"path": "key", "secret_content": ""}]))
    assert not result["changed"]
    assert (tmp_path / "tree/key").read_text() == "private"


def test_difference_shows_text_and_hides_secrets(tmp_path):
    values = parameters(tmp_path, [{"path": "a", "content": "shown"}, {"path": "b", "secret_content": "hidden"}])
    text = str(converge(values)["diff"])
    assert "shown" in text
    assert "hidden" not in text


@pytest.fixture
def known(tmp_path):
    """Return arguments that are as wanted, with what is known of their folder."""
    root = tmp_path / "tree"
    converge(
        parameters(
            tmp_path, [{"path": "a/b.conf", "content": "text"}, {"path": "secrets/one", "secret": "s"}], secrets={"s": ""}
        )
    )
    (root / "secrets/two").write_bytes((root / "secrets/one").read_bytes())
    (root / "x.key").write_text("private")
    files = [
        {"path": "a/b.conf", "content": "text"},
        {"path": "secrets/one", "secret": "s"},
        {"path": "secrets/two", "secret": "s"},
        {"path": "x.key", "secret_content": ""},
    ]
    found = {"tree": stack_survey.read_tree(root), "uid": 1000}
    return {"files": files, "directories": [{"path": "a"}], "secrets": {"s": ""}, "known": found}


def test_what_is_known_to_be_as_wanted_is_not_looked_at_again(known):
    assert config_tree_action.as_wanted(known)


def test_digests_of_secrets_are_not_told(known):
    assert {path for path, item in known["known"]["tree"].items() if item["digest"] is None} == {
        "secrets/one",
        "secrets/two",
        "x.key",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"path": "a/b.conf", "content": "other"}]},
        {"files": [{"path": "a/b.conf", "content": "text", "mode": "0600"}]},
        {"files": [{"path": "missing", "content": "text"}]},
        {"files": [{"path": "x.key", "secret_content": "new"}]},
        {"files": [{"path": "secrets/one", "secret": "s"}, {"path": "x.key", "secret": "s"}]},
        {"secrets": {"s": "given"}},
        {"directories": [{"path": "a", "mode": "0700"}]},
        {"directories": [{"path": "missing"}]},
        {"known": {}},
    ],
)
def test_whatever_differs_is_looked_at(known, change):
    assert not config_tree_action.as_wanted({**known, **change})


def test_owner_counts_for_root(known):
    known["known"]["uid"] = 0
    known["known"]["tree"]["a"]["uid"] = 12345
    assert not config_tree_action.as_wanted(known)
