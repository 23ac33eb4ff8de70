"""SQL dumps as the database of a stack takes them: wrong ones are told, and what can be made to fit is.

``stack_statements`` reads them, on the controller alone; here each statement is judged.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import regex as re
from ansible.module_utils.stack_statements import CHUNK, NOTHING, DumpError, Reader, Token

# Problems of a dump that are told; one is often the cause of all others.
TOLD = 3
OWN = ("mysql", "sys", "performance_schema", "information_schema", "ndbinfo")
# Modes that earlier servers and MariaDB have, and MySQL refuses.
MODES = re.compile(
    rb"\b(?:NO_AUTO_CREATE_USER|NO_FIELD_OPTIONS|NO_KEY_OPTIONS|NO_TABLE_OPTIONS|MYSQL323|MYSQL40|POSTGRESQL|ORACLE|MSSQL|DB2"
    rb"|MAXDB|SIMULTANEOUS_ASSIGNMENT|EMPTY_STRING_IS_NULL|TIME_ROUND_FRACTIONAL|IGNORE_BAD_TABLE_OPTIONS)\b,?",
    re.IGNORECASE,
)
# MariaDB's names, and those of what sorts alike.
COLLATION = re.compile(
    rb"(?:utf8mb4_)?uca1400_(?:nopad_)?(ai_ci|as_ci|as_cs)|(utf8mb4_(?:general|unicode|unicode_520))_nopad_ci"
)
FOREIGN_COLLATION = re.compile(rb"\w*(?:uca1400|_nopad)_\w+")
TARGETED = {"INSERT", "REPLACE", "UPDATE", "DELETE", "TRUNCATE", "CREATE", "ALTER", "DROP", "RENAME", "LOCK", "LOAD"}
# Words after which a statement says no more where it writes.
SOURCES = {"(", "VALUES", "VALUE", "SELECT", "SET", "AS", "FOR", "BEGIN", "WITH", "WHERE"}
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# Of other kinds of files that are taken for dumps.
OTHERS = {
    b"PGDMP": "a dump of PostgreSQL",
    b"SQLite format 3": "a database of SQLite",
    b"PK\x03\x04": "a ZIP archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xfebin": "a binary log",
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "in UTF-32; convert it to UTF-8"),
}
NAMED = "; correct the file, or leave it out."


class Fitter(Reader):
    """Makes a dump fit a database: after ``fit``, ``problems`` and ``notes`` say what is wrong and what was changed."""

    def __init__(self, database: str, user: str) -> None:
        """Fit dumps for a schema and the account of the application."""
        super().__init__()
        self.database, self.user = database, user

    def omit(self, line: int, text: str) -> None:
        """Leave the statement out."""
        self.changed(line, text)
        first = NOTHING
        for token in self.tokens:
            if token.kind in ("open", "close", "word", "name", "string", "op"):
                token.text = first + b"\n" * token.text.count(b"\n")
                first = b""

    def judge(self, said: list[Token]) -> None:
        """Change a statement so that it fits, or say why it does not."""
        words = [token.word for token in said]
        first, line = words[0], said[0].line
        kind = next((word for word in words[1:4] if word not in ("OR", "REPLACE", "TEMPORARY", "AGGREGATE")), "")
        if (
            first in ("GRANT", "REVOKE")
            or (first in ("CREATE", "ALTER", "DROP", "RENAME") and kind in ("USER", "ROLE"))
            or (first == "SET" and (words[1:2] == ["PASSWORD"] or "ROLE" in words[1:3]))
        ):
            self.omit(line, "statements about accounts are left out, because the application has the one of database_user")
        elif first in ("INSTALL", "UNINSTALL"):
            self.omit(line, "statements about plugins are left out, because they are another server's")
        elif first == "SET" and "GTID_PURGED" in words:
            self.omit(line, "the transactions of another server (GTID_PURGED) are left out")
        elif first in ("SOURCE", "SYSTEM") and len(said) > 1:
            self.wrong(line, f"{first} is a command of MySQL's client; name the other file in database_dumps")
        elif first == "USE" and len(said) > 1:
            self.check_schema(said[1], "uses")
        elif first in ("CREATE", "DROP", "ALTER") and kind in ("DATABASE", "SCHEMA"):
            self.judge_schema(first, said)
        else:
            if first == "SET":
                self.judge_set(said, words)
            if first in TARGETED:
                self.judge_target(said, words)
            if first in ("CREATE", "ALTER"):
                self.judge_definer(said, words)
            if first not in ("INSERT", "REPLACE"):
                self.judge_mariadb(said, words, kind)

    def check_schema(self, token: Token, does: str) -> None:
        """Tell of another schema than the application's."""
        name = token.value
        if name.lower() in OWN:
            self.wrong(
                token.line, f"it {does} {name}, a database of the server itself; dump the application's database alone"
            )
        elif name != self.database:
            self.wrong(
                token.line,
                f"it {does} the database {name}, and database_name is {self.database}; set database_name={name}, or dump the"
                " application's database alone",
            )

    def judge_schema(self, first: str, said: list[Token]) -> None:
        """Judge a statement about a schema; one that makes the application's finds it there already."""
        self.judge_mariadb(said, [token.word for token in said], "")
        index = next(i for i, token in enumerate(said) if token.word in ("DATABASE", "SCHEMA"))
        rest = said[index + 1 :]
        conditional = bool(rest) and rest[0].word == "IF"
        if conditional:
            rest = rest[3 if rest[1].word == "NOT" else 2 :]
        if not rest or (
            first == "ALTER" and rest[0].word in ("CHARACTER", "CHARSET", "DEFAULT", "COLLATE", "ENCRYPTION", "READ")
        ):
            return
        self.check_schema(rest[0], {"CREATE": "creates", "DROP": "drops", "ALTER": "changes"}[first])
        if first != "CREATE":
            return
        if not conditional:
            said[index].text += b" IF NOT EXISTS"
        if said[0].text.upper() == b"CREATE" and said[1].word == "OR":
            self.wrong(said[0].line, "CREATE OR REPLACE DATABASE is MariaDB's; write CREATE DATABASE")
        if len(rest) > 1:
            # Its character set counts, though it is there.
            after = self.tokens[self.tokens.index(rest[0]) + 1 :]
            ending = after.pop() if after[-1].kind == "end" else None
            options = b" ".join(token.text for token in after if token.kind in ("word", "name", "string", "op"))
            added = self.delimiter + b" ALTER DATABASE " + self.quoted(self.database) + b" " + options
            self.tokens.insert(self.tokens.index(ending) if ending else len(self.tokens), Token("op", added, rest[0].line))

    @staticmethod
    def quoted(name: str) -> bytes:
        """Return a name for SQL."""
        return b"`" + name.encode().replace(b"`", b"``") + b"`"

    def judge_set(self, said: list[Token], words: list[str]) -> None:
        """Take modes out that this server does not have, and follow what concerns the reading."""
        if any(word in ("NAMES", "CHARACTER", "CHARSET", "CHARACTER_SET_CLIENT") for word in words):
            self.encoded = True
        if "SQL_MODE" not in words:
            return
        strings = [token for token in said if token.kind == "string"]
        for token in strings:
            text = MODES.sub(b"", token.text)
            if text != token.text:
                token.text = text[:-2] + text[-1:] if text[-2:-1] == b"," else text
                self.changed(token.line, "modes of SQL that MySQL no longer has are left out")
        escapes = not any(b"NO_BACKSLASH_ESCAPES" in token.text.upper() for token in strings)
        if escapes != self.escapes:
            self.escapes = escapes
            self.compile()

    def judge_target(self, said: list[Token], words: list[str]) -> None:
        """Check where a statement writes."""
        end = next((i for i, word in enumerate(words) if word in SOURCES and i), len(said))
        for index in range(1, min(end, len(said) - 1)):
            before, after = said[index - 1], said[index + 1]
            named = said[index].kind == "name" or (said[index].kind == "word" and not said[index].text[:1].isdigit())
            if named and after.text == b"." and before.text not in (b".", b"@"):
                self.check_schema(said[index], "writes to")

    def judge_definer(self, said: list[Token], words: list[str]) -> None:
        """Let views, triggers and routines belong to the account of the application; other accounts are not there."""
        for index, word in enumerate(words[:-2]):
            if word != "DEFINER" or words[index + 1] != "=" or words[index + 2] == "CURRENT_USER":
                continue
            account = said[index + 2]
            host = said[index + 4] if words[index + 3 : index + 4] == ["@"] and len(said) > index + 4 else None
            if account.value == self.user and host and host.value == "%":
                continue
            account.text = self.quoted(self.user) + (b"" if host else b"@`%`")
            if host:
                host.text = b"`%`"
            self.changed(account.line, f"definers become {self.user}@%")

    def judge_mariadb(self, said: list[Token], words: list[str], kind: str) -> None:
        """Change what MariaDB names otherwise; tell what MySQL does not have."""
        for index, token in enumerate(said):
            if token.kind in ("word", "string") and FOREIGN_COLLATION.search(token.text):
                text = COLLATION.sub(lambda m: b"utf8mb4_0900_" + m[1] if m[1] else m[2] + b"_ci", token.text)
                if FOREIGN_COLLATION.search(text):
                    self.wrong(
                        token.line, f"the collation {token.value} is MariaDB's and MySQL has none like it; replace it"
                    )
                token.text = text
                self.changed(token.line, "collations of MariaDB become those of MySQL that sort alike")
            if words[index : index + 2] == ["ENGINE", "="] and words[index + 2 : index + 3] == ["ARIA"]:
                said[index + 2].text = b"InnoDB"
                self.changed(token.line, "tables of the engine Aria become InnoDB")
            if token.word in ("PAGE_CHECKSUM", "TRANSACTIONAL") and words[index + 1 : index + 2] == ["="]:
                for part in said[index : index + 3]:
                    part.blank()
                self.changed(token.line, "options of MariaDB's tables are left out")
            if token.word == "VERSIONING" and words[index - 1] == "SYSTEM":
                self.wrong(
                    token.line, "SYSTEM VERSIONING is MariaDB's and MySQL has nothing like it; dump the table without it"
                )
        if words[0] in ("CREATE", "DROP", "ALTER") and kind == "SEQUENCE":
            self.wrong(said[0].line, "SEQUENCE is MariaDB's and MySQL has nothing like it; use AUTO_INCREMENT")


def _decompressed(path: Path) -> Iterator[bytes]:
    """Yield what is in a file, which is decompressed whatever its name.

    Raises:
        DumpError: it cannot be.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")
    if kind == "zstd":
        if not shutil.which("zstd"):
            raise DumpError("it needs the program zstd on this machine; install it, or compress the dump with gzip")
        with subprocess.Popen(
            ["zstd", "--decompress", "--stdout", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as made:
            yield from iter(lambda: made.stdout.read(CHUNK), b"")
            if made.wait():
                raise DumpError("it cannot be decompressed; is the file complete?")
        return
    opened = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}.get(kind, open)
    try:
        with opened(path, "rb") as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        # An error of the system's, and not of what was read.
        if getattr(error, "errno", None) is not None:
            raise
        raise DumpError(f"it cannot be decompressed ({error}); is the file complete?") from None


def read(path: Path, fitter: Fitter) -> Iterator[bytes]:
    """Yield a dump in UTF-8 (or in what it says itself), without a byte order mark.

    Raises:
        DumpError: it is no text.
        OSError: it cannot be read.
    """
    chunks = _decompressed(path)
    head = next(chunks, b"")
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise DumpError(f"it is {what}")
    encoding = ""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif len(head) > 3 and head[1] == 0 and head[3] == 0 and head[0] and head[2]:
        encoding = "utf-16-le"
    elif len(head) > 3 and head[0] == 0 and head[2] == 0 and head[1] and head[3]:
        encoding = "utf-16-be"
    elif head.startswith(codecs.BOM_UTF8):
        head = head[3:]
        fitter.changed(1, "the byte order mark is left out")
    decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
    if encoding:
        fitter.changed(1, "the file is converted from UTF-16 to UTF-8")
    checked, lines = True, 1
    while head is not None:
        chunk = next(chunks, None)
        try:
            text = decoder.decode(head, final=chunk is None) if checked else ""
        except UnicodeDecodeError as error:
            if encoding:
                raise DumpError("it begins like UTF-16 and is not; convert it to UTF-8") from None
            checked, fitter.odd = False, lines + error.object[: error.start].count(b"\n")
        yield text.encode() if encoding else head
        lines += head.count(b"\n") if checked else 0
        head = chunk


def fit(path: Path, database: str, user: str, target: BinaryIO | None = None) -> tuple[list[str], list[str]]:
    """Return what is wrong with a dump, and what was changed so that it fits; both are sentences that name file and line.

    Args:
        path: the dump, compressed or not.
        database: schema of the application.
        user: its account.
        target: where it is written as the database takes it; None: nowhere.
    """
    fitter = Fitter(database, user)
    try:
        for piece in fitter.fit(read(path, fitter)):
            if target:
                target.write(piece)
    except (DumpError, OSError) as error:
        return [f"database_dumps: {path}: {getattr(error, 'strerror', None) or error}{NAMED}"], []
    problems = [f"database_dumps: {path}, line {line}: {text}." for line, text in sorted(fitter.problems)[:TOLD]]
    if len(fitter.problems) > TOLD:
        problems[-1] += f" {len(fitter.problems) - TOLD} more places are wrong."
    notes = [f"{path}: {text} ({count} times, first in line {line})." for text, (count, line) in fitter.notes.items()]
    return problems, notes
