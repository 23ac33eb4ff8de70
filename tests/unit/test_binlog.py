"""Binary logs of a real server, read by the project and by MySQL's own tool."""

import re
import time

import pytest
from recovery import binlog
from stack import run, wait_until

MYSQL = "webstack/mysql:9.7-debian"
NAME = "webstack-test-binlog"


def sql(statement):
    client = ("mysql", "--host=127.0.0.1", "--user=root", "--password=binlog", "-N", "-e")
    return run("docker", "exec", NAME, *client, statement, check=False).stdout


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Let a server write two binary logs with ten rows each; return their folder and a time amid the first ten."""
    folder = tmp_path_factory.mktemp("logs")
    run("docker", "rm", "--force", "--volumes", NAME, check=False)
    run(
        "docker",
        "run",
        "--detach",
        "--name",
        NAME,
        "--network=none",
        "--env=MYSQL_ROOT_PASSWORD=binlog",
        MYSQL,
        "--log-bin=binlog",
    )
    try:
        # The server that initialises answers on its socket alone.
        wait_until(lambda: sql("SELECT 1") == "1\n", 120)
        sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, note BLOB)")
        begin = time.time()
        for number in range(10):
            sql(f"INSERT INTO shop.orders VALUES ({number}, REPEAT('x', 5000))")  # noqa: S608
            if number == 4:
                between = time.time()
        sql("FLUSH BINARY LOGS")
        for number in range(10, 20):
            sql(f"INSERT INTO shop.orders VALUES ({number}, NULL)")  # noqa: S608
        names = [line.split()[0] for line in sql("SHOW BINARY LOGS").splitlines()]
        told = {}
        for name in names:
            run("docker", "cp", f"{NAME}:/var/lib/mysql/{name}", str(folder / name))
            told[name] = run("docker", "exec", NAME, "mysqlbinlog", f"/var/lib/mysql/{name}").stdout
        yield folder, names, told, begin, between
    finally:
        run("docker", "rm", "--force", "--volumes", NAME)


def test_transactions_are_where_the_servers_tool_sees_them(logs):
    folder, names, told, *_ = logs
    for name in names:
        pattern = r"^# at ([0-9]+)\n#[0-9].*\t(?:GTID|Anonymous_GTID)\t"
        expected = [int(position) for position in re.findall(pattern, told[name], re.MULTILINE)]
        assert [item.position for item in binlog.transactions(folder / name)] == expected
        times = [
            float(value) / 1e6 for value in re.findall(r"^# immediate_commit_timestamp=([0-9]+)", told[name], re.MULTILINE)
        ]
        assert [item.committed for item in binlog.transactions(folder / name)] == pytest.approx(times, abs=1e-6)


def test_each_transaction_ends_where_the_next_begins(logs):
    folder, names, *_ = logs
    for name in names:
        found = list(binlog.transactions(folder / name))
        assert [item.end for item in found[:-1]] == [item.position for item in found[1:]]


def test_replay_stops_before_what_came_later(logs):
    folder, names, _, begin, between = logs
    paths = [folder / name for name in names]
    everything = [(path, item) for path in paths for item in binlog.transactions(path)]
    before = [entry for entry in everything if begin < entry[1].committed < between]
    assert len(before) == 5
    following = everything[everything.index(before[-1]) + 1]
    assert binlog.stop(paths, between) == (following[0], following[1].position)
    assert binlog.stop(paths, 0) == (everything[0][0], everything[0][1].position)
    end = (everything[-1][0], everything[-1][1].end)
    assert binlog.stop(paths) == binlog.stop(paths, time.time()) == end


def test_transaction_that_is_not_whole_is_left_out(logs, tmp_path):
    folder, names, *_ = logs
    content = (folder / names[0]).read_bytes()
    found = list(binlog.transactions(folder / names[0]))
    # Within the event that begins it, and within the rows that follow.
    for size in (found[-1].position + 10, found[-1].end - 100):
        (tmp_path / "cut").write_bytes(content[:size])
        assert list(binlog.transactions(tmp_path / "cut")) == found[:-1]
        assert binlog.stop([tmp_path / "cut"]) == (tmp_path / "cut", found[-1].position)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xfdbin....", "is encrypted"), (b"text", "is no binary log"), (b"", "is no binary log")]
)
def test_other_files_are_refused(tmp_path, content, reason):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        list(binlog.transactions(tmp_path / "file"))
