"""Releases on files that are really rendered."""

import json
import os
import sys
from pathlib import Path

import pytest
import stack_release
import stack_releases
import yaml
from stack import PROJECT, run


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """Return a function that renders with some settings and returns the Compose file."""

    def rendered(**settings):
        folder = tmp_path_factory.mktemp("rendered") / "stack"
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/render.yml"]
        settings["render_dir"] = str(folder)
        environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
        run(*command, "-e", json.dumps(settings), cwd=PROJECT, env=environment)
        return (folder / "docker-compose.yml").read_text()

    return rendered


@pytest.fixture(scope="module")
def first(render):
    return render()


@pytest.fixture(scope="module")
def second(render):
    return render(fe_environment={"NEW": "1"}, be_limits={"memory": "300M"}, fe_replicas=7, http_port=18099)


def test_number_of_replicas_makes_no_release(first, second, render):
    assert stack_releases.digest(first) == stack_releases.digest(render(fe_replicas=9, be_replicas=3))
    assert stack_releases.digest(first) != stack_releases.digest(second)


def test_only_front_and_back_end_go_back_and_keep_their_number(first, second):
    old, new = yaml.safe_load(first), yaml.safe_load(second)
    back = yaml.safe_load(stack_releases.splice(second, first))
    old["services"]["fe"]["deploy"]["replicas"] = 7
    assert {name: back["services"][name] for name in ("fe", "be")} == {name: old["services"][name] for name in ("fe", "be")}
    for name in ("fe-lb", "be-lb", "db"):
        assert back["services"][name] == new["services"][name]
    assert back["networks"] == new["networks"]
    assert stack_releases.digest(stack_releases.splice(second, first)) == stack_releases.digest(first)


def test_what_is_rendered_is_known_to_be_kept_or_not(tmp_path, first, second):
    assert not stack_releases.is_saved(tmp_path)
    (tmp_path / "docker-compose.yml").write_text(first)
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases/index.json").write_text(json.dumps([{"digest": stack_releases.digest(first)}]))
    assert stack_releases.is_saved(tmp_path)
    (tmp_path / "docker-compose.yml").write_text(second)
    assert not stack_releases.is_saved(tmp_path)


class Stack:
    """A stack whose releases are kept in a folder, of rendered Compose files and images that an engine has."""

    def __init__(self, folder, text, monkeypatch):
        self.root, self.text, self.images = folder, text, {}
        monkeypatch.setattr(stack_release, "docker", self.docker)
        self.mode = "production"
        definition = {"port": 8000, "health_path": "/", "health_host": "localhost"}
        self.tiers = {"fe": [{**definition, "first": 1}], "be": [{**definition, "first": 1}]}

    def docker(self, *argv):
        """Say which image a name or an id means, if there is one."""
        return self.images.get(argv[-1], "") if argv[:2] == ("image", "inspect") else ""

    @property
    def file(self):
        """The rendered Compose file."""
        return self.root / "docker-compose.yml"

    def render(self, image):
        """Write the files of a deployment with an image of the front end, built before."""
        section = stack_releases.section(self.text, "fe")
        name = stack_release.image_of(self.text, "fe")
        text = self.text.replace(section, section.replace(f"image: {name}\n", f"image: {image}\n"))
        self.images |= {image: f"sha256:{image}", f"sha256:{image}": f"sha256:{image}"}
        self.file.write_text(text)
        mode = {"mode": self.mode} if self.mode else {}
        (self.root / "state.json").write_text(json.dumps({"tiers": self.tiers, **mode}))
        return text

    def deploy(self, image):
        """Deploy successfully, and return the rendered Compose file."""
        text = self.render(image)
        parameters = {"keep": 5, "project": "web", "prefix": "", "build_cache": 0}
        assert stack_release.save(self.root, parameters, False)["changed"]
        return text

    def back(self, number=0, check=False):
        """Go back to a release, as playbooks/rollback.yml does, and return its number."""
        release = stack_release.restore(self.root, {"number": number, "lock_timeout": 0}, check)["release"]
        stack_release.forget(self.root, {"number": release["number"]}, check)
        return release["number"]

    def numbers(self):
        """Return the numbers of the releases that are kept."""
        return [release["number"] for release in stack_releases.read_index(self.root)]


@pytest.fixture
def stack(tmp_path, first, monkeypatch):
    return Stack(tmp_path, first, monkeypatch)


def test_the_release_before_comes_back_and_then_the_one_before_that(stack):
    texts = [stack.deploy(image) for image in ("one", "two", "three")]
    assert (stack.back(), stack.file.read_text()) == (2, texts[1])
    assert stack.numbers() == [1, 2]
    assert (stack.back(), stack.file.read_text()) == (1, texts[0])
    with pytest.raises(stack_release.RefusalError, match="There is no earlier release"):
        stack.back()


def test_a_certain_release_comes_back(stack):
    texts = [stack.deploy(image) for image in ("one", "two", "three")]
    assert (stack.back(1), stack.file.read_text()) == (1, texts[0])
    assert stack.numbers() == [1]


def test_after_a_failed_deployment_the_files_go_back_to_what_runs(stack):
    texts = [stack.deploy(image) for image in ("one", "two")]
    # It was rendered, and did not become a release.
    failed = stack.render("broken")
    assert (stack.back(), stack.file.read_text()) == (2, texts[1])
    assert stack.numbers() == [1, 2]
    assert failed not in texts
    # A certain one all the same.
    stack.render("broken")
    assert (stack.back(1), stack.file.read_text()) == (1, texts[0])


def test_in_check_mode_nothing_is_written(stack):
    texts = [stack.deploy(image) for image in ("one", "two")]
    assert stack.back(check=True) == 1
    assert (stack.file.read_text(), stack.numbers()) == (texts[1], [1, 2])


def test_release_that_is_not_kept_is_refused_with_those_that_are(stack):
    texts = [stack.deploy(image) for image in ("one", "two", "three")]
    with pytest.raises(stack_release.RefusalError, match="there is no release 7; earlier ones are: 1, 2"):
        stack.back(7)
    assert stack.file.read_text() == texts[-1]


def test_release_whose_image_is_gone_is_refused_and_one_whose_name_means_another_is_found_by_its_id(stack):
    texts = [stack.deploy(image) for image in ("one", "two")]
    stack.images["one"] = "sha256:another"
    assert stack.back() == 1
    assert stack_release.image_of(stack.file.read_text(), "fe") == "sha256:one"
    stack.file.write_text(texts[1])
    stack.deploy("two")
    del stack.images["sha256:one"]
    with pytest.raises(stack_release.RefusalError, match="The image one of release 1 is no longer on the host"):
        stack.back()


def test_release_of_another_port_is_refused(stack):
    stack.deploy("one")
    stack.tiers["fe"][0]["port"] = 9000
    stack.deploy("two")
    with pytest.raises(stack_release.RefusalError, match="fe_port: release 1 had 8000 and the load balancer is set to 9000"):
        stack.back()


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ("development", "production", True),
        ("production", "development", True),
        ("production", "production", False),
        # Of a version that did not write it down.
        (None, "production", False),
    ],
)
def test_release_of_another_mode_is_refused(stack, before, now, refused):
    stack.mode = before
    stack.deploy("one")
    stack.mode = now
    text = stack.deploy("two")
    if not refused:
        assert stack.back() == 1
        return
    with pytest.raises(stack_release.RefusalError, match=f"app_mode: release 1 was for {before} and the stack is for {now}"):
        stack.back()
    assert stack.file.read_text() == text


def test_after_a_failed_change_of_the_checks_the_release_before_comes_back(stack):
    """The load balancer still knows how its replicas are judged; an earlier version of the project wrote one definition."""
    earlier = {"port": 8000, "health_path": "/"}
    stack.tiers = {"fe": earlier, "be": earlier}
    text = stack.deploy("one")
    known = {**earlier, "health_host": "localhost", "first": 1}
    stack.tiers = {"fe": [{**known, "health_path": "/nope", "first": 10001}, known], "be": [known]}
    stack.render("two")
    assert (stack.back(), stack.file.read_text()) == (1, text)


# What development changes of front end and back end; of nothing else anything.
DEVELOPED = {"user", "group_add", "environment", "volumes"}


@pytest.fixture(scope="module")
def modes(render, first):
    """Return the stack in production and in development, as the Compose file describes them."""
    host = yaml.safe_load((PROJECT / "playbooks/render.yml").read_text())[-1]["vars"]["_preflight_result"]
    host["developer"] = {"uid": 1234, "gid": 100, "user": "1234:100", "groups": [27], "umask": "0022"}
    return yaml.safe_load(first), yaml.safe_load(render(app_mode="development", _preflight_result=host))


def test_in_development_everything_but_the_code_and_its_user_is_as_in_production(modes):
    production, development = modes
    assert development["networks"] == production["networks"]
    assert development["services"].keys() == production["services"].keys()
    for name, service in development["services"].items():
        usual = production["services"][name]
        differs = {key for key in {*service, *usual} if service.get(key) != usual.get(key)}
        assert differs == (DEVELOPED if name in ("fe", "be") else set()), name
    for name in ("fe", "be"):
        service, usual = development["services"][name], production["services"][name]
        assert service["user"] == "1234:100"
        added = {key: value for key, value in service["environment"].items() if usual["environment"].get(key) != value}
        assert added == {"APP_MODE": "development", "HOME": "/tmp"}  # noqa: S108 (in the container)
        assert [mount["target"] for mount in service["volumes"] if mount not in usual["volumes"]] == ["/srv"]


def test_in_development_containers_have_no_capabilities_and_a_read_only_file_system(modes):
    for name in ("fe", "be"):
        service = modes[1]["services"][name]
        assert (service["read_only"], service["cap_drop"], service["cap_add"]) == (True, ["ALL"], [])
        assert "no-new-privileges:true" in service["security_opt"]
