"""What is told of a dump before anything runs, and how one is made to fit, without a server."""

import bz2
import codecs
import gzip
import io
import lzma
import subprocess
import time

import pytest
import stack_dump
from ansible.module_utils import stack_statements
from hypothesis import given
from hypothesis import strategies as st

ROWS = b"INSERT INTO t VALUES (1,'a;b'),(-2,\"c--d\"),(3,'it''s \\' -- x'),(4,NULL);\n"
# More than is looked at as a whole.
LONG = b"INSERT INTO t VALUES ('" + b"x\\'" * (stack_statements.WHOLE // 2) + b"');\n"


def fitted(text, tmp_path, name="x.sql"):
    """Return the dump as the database takes it, what is wrong with it, and what was changed."""
    (tmp_path / name).write_bytes(text)
    target = io.BytesIO()
    problems, notes = stack_dump.fit(tmp_path / name, "app", "keeper", target)
    return target.getvalue(), problems, notes


@pytest.mark.parametrize(
    "text",
    [
        b"",
        ROWS,
        pytest.param(LONG, id="long"),
        b"-- USE mysql;\n# CREATE DATABASE x;\n/* GRANT ALL; */ SELECT 1;",
        b"INSERT INTO t VALUES ('\nCREATE DATABASE shop;\nUSE mysql;\n');",
        b"CREATE TABLE t (a INT DEFAULT -1, b TEXT COMMENT 'DEFINER=`x`@`y` /* ');\nSELECT 2-1, 4/2, a--1 FROM t;",
        b"/*!40101 SET NAMES utf8mb4 */;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\nUSE `app`;\n",
        b"DROP DATABASE IF EXISTS app;",
        b"DELIMITER $$\nCREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SET @a = ';'; END$$\nDELIMITER ;\n",
        b"INSERT INTO t VALUES (_binary 'a\0b\r\n\xff\\\\'),(\\N); SET NAMES latin1; SELECT '\xe4';",
        b"CREATE DATABASE IF NOT EXISTS app;",
        b"SET sql_mode='NO_BACKSLASH_ESCAPES'; INSERT INTO t VALUES ('\\'); SELECT 'USE mysql;';",
        b"CREATE TABLE app.t (a INT); INSERT INTO `app`.`t` SELECT * FROM information_schema.tables;",
        b"SELECT 1",
    ],
)
def test_a_dump_of_the_application_stays_as_it_is(tmp_path, text):
    assert fitted(text, tmp_path) == (text, [], [])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"\nUSE mysql;", 2, "uses mysql, a database of the server itself"),
        (b"USE `shop`;", 1, "set database_name=shop"),
        (b"use shop\nSELECT 1;", 1, "uses the database shop"),
        (b"/*x*/\n\nCREATE /* c */\n DATABASE /*!32312 IF NOT EXISTS*/ `shop`;", 4, "creates the database shop"),
        (b"create schema SYS;", 1, "creates SYS, a database of the server"),
        (b"DROP DATABASE IF EXISTS other;", 1, "drops the database other"),
        (b"ALTER DATABASE other CHARACTER SET utf8mb4;", 1, "changes the database other"),
        (b"SELECT 1;\nINSERT INTO mysql.user VALUES (1);", 2, "writes to mysql"),
        (b"DELETE FROM `mysql` . `db` WHERE 1;", 1, "writes to mysql"),
        (b"CREATE TABLE sys.t (a INT);", 1, "writes to sys"),
        (b"LOCK TABLES a WRITE, `mysql`.`b` WRITE;", 1, "writes to mysql"),
        (b"UPDATE shop.t SET a = 1;", 1, "writes to the database shop"),
        (b"/*!50003 CREATE TRIGGER x BEFORE INSERT ON mysql.t FOR EACH ROW SET @a=1 */;", 1, "writes to mysql"),
        (b"DELIMITER //\nUSE mysql//\n", 2, "uses mysql"),
        (b"SELECT 1;\n\nINSERT INTO t VALUES ('a\n);\n", 3, "text in ' begins and does not end"),
        (b"SELECT 1; /* a\n", 1, "a comment begins and does not end"),
        pytest.param(LONG[:-5], 1, "text in ' begins and does not end", id="long"),
        (b"SELECT 1;\n\\! rm -rf /\n", 2, "a command of MySQL's client"),
        (b"source other.sql\n;", 1, "name the other file in database_dumps"),
        (b"SELECT 1;\nINSERT INTO t VALUES ('M\xfcller');", 2, "text that is not UTF-8"),
        (
            b"CREATE TABLE t (a TEXT)\nCOLLATE=utf8mb4_uca1400_swedish_ai_ci;",
            2,
            "utf8mb4_uca1400_swedish_ai_ci is MariaDB's",
        ),
        (b"CREATE SEQUENCE s;", 1, "SEQUENCE is MariaDB's"),
        (b"CREATE TABLE t (a INT) WITH SYSTEM VERSIONING;", 1, "SYSTEM VERSIONING is MariaDB's"),
    ],
)
def test_a_dump_that_does_not_fit_is_told_with_its_line(tmp_path, text, line, words):
    _, problems, _ = fitted(text, tmp_path)
    (problem,) = problems
    assert problem.startswith(f"database_dumps: {tmp_path}/x.sql, line {line}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"PGDMP\1\2", "it is a dump of PostgreSQL"),
        (b"SQLite format 3\0", "it is a database of SQLite"),
        (b"PK\3\4", "it is a ZIP archive"),
        (b"SELECT 1;\n\0\0\0", "line 2 holds bytes that are no text"),
        (codecs.BOM_UTF32_LE + b"S\0\0\0", "it is in UTF-32"),
        (codecs.BOM_UTF16_LE + b"S\0\0\xd8", "it begins like UTF-16 and is not"),
        (gzip.compress(ROWS)[:-9], "is the file complete?"),
        (lzma.compress(ROWS * 9)[:-9], "is the file complete?"),
        (bz2.compress(ROWS * 9)[:-9], "is the file complete?"),
    ],
)
def test_what_is_no_dump_is_told(tmp_path, text, words):
    _, problems, _ = fitted(text, tmp_path)
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    ("text", "expected", "words"),
    [
        (codecs.BOM_UTF8 + b"CREATE DATABASE IF NOT EXISTS app;", b"CREATE DATABASE IF NOT EXISTS app;", "byte order mark"),
        ("\ufeffSELECT 'ö';".encode("utf-16-le"), "SELECT 'ö';".encode(), "UTF-16"),
        ("\ufeffSELECT 'ö';".encode("utf-16-be"), "SELECT 'ö';".encode(), "UTF-16"),
        ("SELECT 'ö';".encode("utf-16-le"), "SELECT 'ö';".encode(), "UTF-16"),
        (b"CREATE DEFINER=`prod`@`%` VIEW v AS SELECT 1;", b"CREATE DEFINER=`keeper`@`%` VIEW v AS SELECT 1;", "keeper@%"),
        (
            b"/*!50001 CREATE */\n/*!50013 DEFINER='a'@localhost SQL SECURITY DEFINER */\n/*!50001 VIEW v AS SELECT 1 */;",
            b"/*!50001 CREATE */\n/*!50013 DEFINER=`keeper`@`%` SQL SECURITY DEFINER */\n/*!50001 VIEW v AS SELECT 1 */;",
            "first in line 2",
        ),
        (
            b"CREATE definer = boss PROCEDURE p() SELECT 1;",
            b"CREATE definer = `keeper`@`%` PROCEDURE p() SELECT 1;",
            "keeper@%",
        ),
        (b"CREATE USER 'a'@'%'\nIDENTIFIED WITH mysql_native_password BY 'x;y';", b"DO 0  \n    ;", "accounts"),
        (b"GRANT ALL ON app.* TO a@b;SELECT 1;", b"DO 0     ;SELECT 1;", "accounts"),
        (b"SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a:1-5,\nb:1';", None, "GTID_PURGED"),
        (b"DELIMITER $$\nDROP USER a$$\n", b"DELIMITER $$\nDO 0  $$\n", "accounts"),
        (b"INSTALL PLUGIN a SONAME 'a.so';", None, "plugins"),
        (
            b"SET sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION';",
            b"SET sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION';",
            "modes",
        ),
        (b"SET sql_mode='A,NO_AUTO_CREATE_USER';", b"SET sql_mode='A';", "modes"),
        (
            b"CREATE TABLE t (a INT) COLLATE=utf8mb4_uca1400_ai_ci;",
            b"CREATE TABLE t (a INT) COLLATE=utf8mb4_0900_ai_ci;",
            "sort alike",
        ),
        (b"CREATE TABLE t (a INT) ENGINE=Aria PAGE_CHECKSUM=1;", b"CREATE TABLE t (a INT) ENGINE=InnoDB    ;", "Aria"),
    ],
)
def test_a_dump_is_made_to_fit(tmp_path, text, expected, words):
    result, problems, notes = fitted(text, tmp_path)
    assert not problems
    assert words in " ".join(notes)
    if expected is None:
        assert result.strip(b" \n;") == b"DO 0"
        assert result.count(b"\n") == text.count(b"\n")
    else:
        assert result == expected


def test_a_schema_may_be_there_already_and_keeps_its_character_set(tmp_path):
    assert fitted(b"CREATE DATABASE app;", tmp_path)[0] == b"CREATE DATABASE IF NOT EXISTS app;"
    result, problems, _ = fitted(
        b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `app` /*!40100 DEFAULT CHARACTER SET latin1 */;", tmp_path
    )
    assert not problems
    assert result.endswith(b"; ALTER DATABASE `app` DEFAULT CHARACTER SET latin1;")
    assert fitted(b"use app\nSELECT 1;", tmp_path)[0] == b"use app;\nSELECT 1;"


def test_what_is_for_mariadb_alone_is_left_out_and_lines_stay(tmp_path):
    for text in (
        b"/*M!999999\\- enable the sandbox mode */ \nSELECT 1;",
        b"/*M!100616 SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY */;\nSELECT 1;",
        b"/*!999999\\- a\n; */SELECT 1;",
    ):
        result, problems, notes = fitted(text, tmp_path)
        assert not problems + notes
        assert b"\\" not in result
        assert result.count(b"\n") == 1
        assert result.endswith(b"SELECT 1;")


def test_a_statement_of_many_rows_is_split_where_a_row_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(stack_statements, "SPLIT", 300)
    for module in (stack_dump, stack_statements):
        monkeypatch.setattr(module, "CHUNK", 100)
    rows = [b"(%d,-1,'a),(b;',NULL,\\N, \"x\")" % number for number in range(400)]
    result, problems, _ = fitted(b"INSERT INTO `t`\n(a, b) VALUES " + b",".join(rows) + b";\nUSE mysql;", tmp_path)
    assert problems[0].startswith(f"database_dumps: {tmp_path}/x.sql, line 3: ")
    pieces = result.removesuffix(b";\nUSE mysql;").split(b"; INSERT INTO `t` (a, b) VALUES ")
    assert len(pieces) > 1
    pieces[0] = pieces[0].removeprefix(b"INSERT INTO `t`\n(a, b) VALUES ")
    assert b",".join(pieces) == b",".join(rows)
    # What is more than literals is left alone: the end of a row is not sure there.
    for odd in (
        b"INSERT INTO t VALUES " + b",".join([b"(POINT(1,2),(3))"] * 99),
        b"INSERT INTO t -- c\nVALUES " + b",".join(rows),
    ):
        assert fitted(odd + b";", tmp_path) == (odd + b";", [], [])


def zstd(text):
    return subprocess.run(["zstd", "--stdout"], input=text, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressed_dumps_are_treated_alike_whatever_their_name(tmp_path, pack):
    assert fitted(pack(ROWS), tmp_path)[0] == ROWS
    assert fitted(pack(ROWS + b"USE mysql;"), tmp_path)[1][0].startswith(
        f"database_dumps: {tmp_path}/x.sql, line 2: it uses mysql"
    )


TEXTS = st.text(alphabet="ab';\"`\\-#/*! \nUSEöCREATE", max_size=30)


@given(st.lists(TEXTS, max_size=8), st.integers(1, 7))
def test_texts_are_never_taken_for_statements_wherever_a_chunk_ends(texts, size):
    """Any text as a string, a name or a comment stays what it is, and a statement behind it is still seen."""
    parts = []
    for text in texts:
        quoted = text.replace("\\", "\\\\").replace("'", "''")
        parts.append("INSERT INTO t VALUES ('%s', -1);\n" % quoted)  # noqa: S608, UP031
        parts.append("CREATE TABLE `" + text.replace("`", "``").replace("\n", " ") + "x` (a INT);\n")
        parts.append("/* " + text.replace("*/", "") + " */\n-- " + text.replace("\n", " ") + "\n")
    dump = "".join(parts).encode()
    for end, problems in ((b"SELECT 1;", 0), (b"USE mysql;", 1)):
        whole = dump + end
        fitter = stack_dump.Fitter("app", "keeper")
        fitted = b"".join(fitter.fit(whole[at : at + size] for at in range(0, len(whole), size)))
        assert fitted == whole
        assert len(fitter.problems) == problems
        assert not problems or fitter.problems[0][0] == dump.count(b"\n") + 1


@pytest.mark.parametrize(
    "piece",
    [b"-- a comment\n", b"/* one */ ", b"\n \n", b";\n", b"+ 1 ", b"'a' ", b"`a`, ", b"(1,2),", b"(NOW()),", b"SELECT 1;\n"],
)
@pytest.mark.parametrize("before", [b"", b"UPDATE t SET a = 1 ", b"INSERT INTO t VALUES "])
def test_reading_takes_time_in_proportion_and_what_follows_is_judged(before, piece, tmp_path):
    seconds = []
    for number in (2_000, 16_000):
        begin = time.process_time()
        _, problems, _ = fitted(before + piece * number + b"\n;USE mysql;", tmp_path)
        seconds.append(time.process_time() - begin)
        assert "it uses mysql" in "".join(problems)
    # Eight times as much; were it looked at anew with each piece, it would take 64 times as long.
    assert seconds[1] < 25 * max(seconds[0], 0.01)
