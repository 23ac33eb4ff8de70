"""What lies in a folder of a container, and what answers there, is not trusted: links, sockets, answers."""

import os
import socket
import stat
import threading

import pytest
import stack_haproxy

STATE = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n3 fe 1 fe-1 10.0.0.2 2 0 8000\n"


@pytest.fixture(name="serve")
def server(tmp_path):
    """Return a function that lets something answer at a socket, and returns its path."""
    ends = []

    def serve(parts, name="master.sock"):
        path = tmp_path / name
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(5)
        ends.append(listening)

        def answer():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        for part in parts():
                            connection.sendall(part)
                    except OSError:
                        continue

        threading.Thread(target=answer, daemon=True).start()
        return path

    yield serve
    for end in ends:
        end.close()


def forever():
    while True:
        yield b"x" * 65536


def drop_by_drop(pause):
    waiting = threading.Event()
    while not waiting.wait(pause):
        yield b"x"


def test_answer_of_a_socket_is_returned(serve):
    assert stack_haproxy.ask(serve(lambda: [b"an ", b"answer"]), "show info") == "an answer"


def test_answer_has_an_end_in_size(serve, monkeypatch):
    monkeypatch.setattr(stack_haproxy, "ANSWER_SIZE", 1 << 20)
    with pytest.raises(stack_haproxy.AnswerError, match="more than"):
        stack_haproxy.ask(serve(forever), "show info")


@pytest.mark.parametrize("pause", [0.05, 0.0002])
def test_answer_has_an_end_in_time(serve, monkeypatch, pause):
    """Although each part of it comes in time."""
    monkeypatch.setattr(stack_haproxy, "ANSWER_SIZE", 1 << 16)
    with pytest.raises(TimeoutError):
        stack_haproxy.ask(serve(lambda: drop_by_drop(pause)), "show info", timeout=0.3)


@pytest.mark.parametrize("kind", ["link", "file", "fifo", "folder", "folder that is a link"])
def test_only_a_socket_in_its_own_folder_is_talked_to(tmp_path, serve, kind):
    real = serve(lambda: [b"secret of another"], "other.sock")
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "master.sock"
    if kind == "link":
        path.symlink_to(real)
    elif kind == "file":
        path.write_text("text")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "way").symlink_to(tmp_path)
        path = tmp_path / "way/other.sock"
    with pytest.raises(OSError, match=r"no socket|symbolic link|Not a directory"):
        stack_haproxy.ask(path, "show info", timeout=1)


@pytest.mark.parametrize("name", ["state", ".state.new", "both"])
@pytest.mark.parametrize("target", ["file", "nothing", "folder"])
def test_state_is_written_through_no_link(tmp_path, serve, name, target):
    """As uid 99 in fe-lb could lay them."""
    path = serve(lambda: [STATE.encode()])
    precious = tmp_path / "precious"
    if target == "file":
        precious.write_text("root's")
        precious.chmod(0o600)
    elif target == "folder":
        precious.mkdir()
    for link in ("state", ".state.new") if name == "both" else (name,):
        (tmp_path / link).symlink_to(precious)
    stack_haproxy.save_state(path, [{"first": 1, "port": 8000}])
    if target == "file":
        assert precious.read_text() == "root's"
        assert stat.S_IMODE(precious.stat().st_mode) == 0o600
    elif target == "folder":
        assert list(precious.iterdir()) == []
    else:
        assert not precious.exists()
    written = tmp_path / "state"
    assert not written.is_symlink()
    assert "3 fe 1 fe-1 10.0.0.2 2 0 8000" in written.read_text().splitlines()
    stack_haproxy.drop_state(path)
    assert not written.exists()
    assert {item.name for item in tmp_path.iterdir()} <= {"master.sock", "precious", ".state.new"}


def test_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "precious").write_text("root's")
    (tmp_path / "state").symlink_to(tmp_path / "precious")
    stack_haproxy.drop_state(tmp_path / "master.sock")
    assert (tmp_path / "precious").read_text() == "root's"


HEADER = STATE.splitlines()[1]


@pytest.mark.parametrize(
    "line",
    [
        "3 fe 1 fe-1 10.0.0.2 two 0 8000",
        "3 fe 1 fe-1 /etc/passwd 2 0 8000",
        "3 fe 1 fe-1;shutdown 10.0.0.2 2 0 8000",
        "3 fe 1 fe-1 10.0.0.2 2 zero 8000",
        f"3 fe 1 {'x' * 200} 10.0.0.2 2 0 8000",
    ],
)
def test_slots_of_another_form_are_no_answer(line):
    assert stack_haproxy.read_servers(STATE)[0].name == "fe-1"
    with pytest.raises(OSError, match="HAProxy's form"):
        stack_haproxy.read_servers(f"1\n{HEADER}\n{line}\n")


@pytest.mark.parametrize(
    "line", ["fe,fe-1,-1,UP", "fe,fe-1,many,UP", "fe,fe-1\x1b[2J,1,UP", "fe,../x,1,UP", ",fe-1,1,UP", "fe,fe-1,1"]
)
def test_statistics_of_another_form_are_no_answer(line):
    header = "# pxname,svname,scur,status\n"
    assert stack_haproxy.servers_up(f"{header}fe,fe-1,1,UP\n", "fe") == 1
    with pytest.raises(OSError, match="HAProxy's form"):
        stack_haproxy.servers_up(f"{header}{line}\n", "fe")


@pytest.mark.parametrize("text", ["description: ../../x", "description: \x1b[31mabc", "description: " + "a" * 65, "x"])
def test_version_is_a_digest_or_nothing(text):
    assert stack_haproxy.version("Name: x\ndescription: 0123abcd\n") == "0123abcd"
    assert stack_haproxy.version(text) == ""


def test_what_is_shown_of_an_answer_is_short_and_without_control_characters():
    shown = stack_haproxy.printable("\x1b[2Jone\ntwo\x07 " + "x" * 10000)
    assert shown.startswith("[2Jone two")
    assert shown.isprintable()
    assert len(shown) == stack_haproxy.SHOWN
