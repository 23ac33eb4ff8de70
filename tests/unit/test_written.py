"""What is no YAML, and what Ansible takes for a template, is refused in one sentence that says where."""

import json

import pytest
import stack_checks
import stack_settings
import stack_written
import webstack_inventory
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.utils.display import Display
from stack import PROJECT

WRONG = {
    "an open quote": ('a: 1\nb: "2\nc: 3\n', 4, "(begun in line 2)"),
    "an open bracket": ("a: [1,\nb: 2\n", 3, "(begun in line 1)"),
    "a tab": ("a:\n\tb: 1\n", 2, "cannot start any token"),
    "indentation": ("a: 1\n  b: 2\n", 2, "not allowed"),
    "a template without quotes": ("a: {{ b }} c\n", 1, ""),
    "a colon": ("a: b: c\n", 1, "mapping values are not allowed"),
    "two documents": ("a: 1\n---\nb: 2\n", 2, ""),
    "a percent sign": ("a: %b\n", 1, "cannot start any token"),
}


@pytest.mark.parametrize("case", WRONG)
def test_text_that_is_no_yaml_is_told_by_file_line_and_reason(case):
    text, line, reason = WRONG[case]
    said = stack_written.yaml_problem("group_vars/all.yml", text)
    assert said.startswith(f"group_vars/all.yml, line {line}: this is no YAML: ")
    assert reason in said
    assert said.endswith("; correct it.")
    assert "\n" not in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\n",
        "a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6330\n",
        "a: !unsafe '{{ b }}'\n",
        '{"a":\t1}',
        "# nothing\n",
    ],
)
def test_text_that_is_yaml_is_not(text):
    assert stack_written.yaml_problem("x", text) == ""


@pytest.mark.parametrize(
    ("text", "refused"),
    [("", True), ("- a\n", True), ("a", True), ("a: 1", False), ("$ANSIBLE_VAULT;1.1;AES256\n6330\n", False)],
)
def test_variables_are_a_dictionary(text, refused):
    assert bool(stack_written.yaml_problem("x", text, mapping=True)) is refused


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """Return a function that lets the plugin look at an inventory and options, and returns what it says."""
    (tmp_path / "group_vars" / "all").mkdir(parents=True)
    (tmp_path / "hosts.yml").write_text("all: {hosts: {localhost: }}\n")
    said = []
    monkeypatch.setattr(Display(), "display", lambda text, **_: said.append(text))
    plugin = webstack_inventory.InventoryModule.__new__(webstack_inventory.InventoryModule)

    def look(*options, inventory="hosts.yml", wrong=True):
        monkeypatch.setattr(context, "CLIARGS", {"extra_vars": options})
        said.clear()
        if wrong:
            with pytest.raises(SystemExit):
                plugin.verify_file(str(tmp_path / inventory))
        else:
            # Ansible's own plugins are asked.
            assert plugin.verify_file(str(tmp_path / inventory)) is False
        return "".join(said)

    return look


def test_inventory_that_is_well_is_left_to_the_plugins_of_ansible(refusal, tmp_path):
    (tmp_path / "group_vars" / "all" / "a.yml").write_text("fe_replicas: 2\n")
    (tmp_path / "group_vars" / "all" / "notes.txt").write_text("a: b: c\n")
    (tmp_path / "variables.yml").write_text("fe_replicas: 3\n")
    assert refusal(f"@{tmp_path}/variables.yml", "fe_replicas=2", "a={ b", '{"fe_replicas": 3}', wrong=False) == ""


@pytest.mark.parametrize(
    "place", ["hosts.yml", "group_vars/all/a.yml", "group_vars/all.yaml", "host_vars/localhost.yml", "linked"]
)
def test_each_file_that_settings_come_from_is_looked_at(refusal, tmp_path, place):
    if place == "linked":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/a.yml").write_text("a: b: c\n")
        (tmp_path / "group_vars/web").symlink_to(tmp_path / "elsewhere")
        place = "group_vars/web/a.yml"
    else:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("a: b: c\n")
    said = refusal()
    assert said.startswith(f"{tmp_path}/{place}, line 1: this is no YAML: ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("{fe_replicas: [}", "-e, line 1: this is no YAML: "),
        ("[1, 2]", "-e: variables are a dictionary"),
        ("@/nowhere/x.yml", "-e @/nowhere/x.yml: the file cannot be read (No such file or directory); correct the path."),
        ("/etc/x.yml", "-e /etc/x.yml: a file of variables is given as -e @/etc/x.yml."),
    ],
)
def test_variables_of_the_command_line_are_looked_at(refusal, option, said):
    assert refusal(option).startswith(said)


def test_inventory_that_is_not_there_is_refused(refusal):
    assert refusal(inventory="nowhere.yml").endswith("nowhere.yml: there is no such file; correct the path.")


def test_plugin_is_asked_first_and_ansibles_own_follow():
    lines = (PROJECT / "ansible.cfg").read_text().splitlines()
    assert "inventory_plugins = plugins/inventory" in lines
    assert "enable_plugins = webstack, host_list, script, auto, yaml, ini, toml" in lines


def templates(**variables):
    """Return what is said of settings, which are filled in by Ansible itself."""
    marked = json.loads(json.dumps(variables), object_hook=lambda item: item)

    def mark(value):
        if isinstance(value, dict):
            return {key: mark(item) for key, item in value.items()}
        if isinstance(value, list):
            return [mark(item) for item in value]
        return trust_as_template(value) if isinstance(value, str) else value

    everything = {name: mark(value) for name, value in marked.items()}
    return stack_checks.check_templates(everything, Templar(DataLoader(), everything).template, PROJECT)


@pytest.mark.parametrize(
    ("name", "value", "path", "shown"),
    [
        ("fe_image", "shop:{{ version }}", "fe_image", "'shop:{{ version }}' ('version' is undefined)"),
        ("fe_image", "shop:{{ version", "fe_image", "'shop:{{ version' ("),
        ("fe_image", "{% if %}", "fe_image", "'{% if %}' ("),
        ("fe_command", ["serve", "{{ port }}"], "fe_command", "'{{ port }}' ('port' is undefined)"),
        ("edge_headers", {"X-A": "{{ a }}"}, "edge_headers.X-A", "'{{ a }}'"),
        ("database_dumps", ["{{ a | nothing }}"], "database_dumps", "'{{ a | nothing }}'"),
        # May be secrets.
        ("fe_environment", {"LEVEL": "{{ level }}"}, "fe_environment.LEVEL", "what is given"),
        ("database_password", "ge{{ heim", "database_password", "what is given"),
    ],
)
def test_braces_that_mean_nothing_to_ansible_are_named_with_unsafe(name, value, path, shown):
    (said,) = templates(**{name: value})
    assert said.startswith(f"{path}: Ansible takes {{{{ }}}} for a template of its own and cannot fill in {shown}")
    key = path.rpartition(".")[2]
    assert said.endswith(f'write !unsafe before the value to keep it as it stands: {key}: !unsafe "...".')
    if shown == "what is given":
        assert not any(word in said for word in ("heim", "{{ level", "'level'"))


def test_only_the_setting_that_is_wrong_is_named():
    (said,) = templates(stack_name="{{ nothing }}", stack_dir="~/x/{{ stack_name }}", fe_image="a:{{ tag }}", tag="1")
    assert said.startswith("stack_name: ")
    assert templates(fe_image="a:{{ tag }}", tag="1", mine="{{ nothing }}") == []
    assert "fe_environment" in stack_settings.read_settings(PROJECT)
    assert issubclass(AnsibleError, Exception)
