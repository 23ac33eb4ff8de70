"""SQL dumps as the database of a stack takes them: wrong ones are told, and what can be made to fit is.

A dump is read as a stream of tokens by the rules of MySQL's manual ("Comments", "String Literals", "mysql Client
Commands"), in constant memory, on the controller alone. Possessive quantifiers see to it that a long run is never tried a
second time; they come from ``regex``, because those of ``re`` are wrong in Python 3.11.2. Every line stays the same line,
so that the number in an error of the server is that of the user's file.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import regex as re

CHUNK = 2**20
# Bytes of rows that are matched at a time.
STEP = 2**15
# Bytes of a statement that are looked at as a whole; of a longer one the rest is data.
WHOLE = 4 * 2**20
# Begins a comment for servers that there are not yet, or for MariaDB.
LATER = re.compile(rb"/\*M?!(?:\d{6}|99999)")
# Tokens at the beginning of a statement with rows that say where the rows go.
ROWS = 2000
# Bytes of rows after which a statement begins anew: the server takes about 40 times as much memory for a statement of many.
SPLIT = 2**20
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
}
# A statement that does nothing; the server takes an empty one for an error.
NOTHING = b"DO 0"
NAMED = "; correct the file, or leave it out."


class DumpError(Exception):
    """The text says why a dump cannot be read at all."""


def _patterns(escapes: bool, ends: bytes) -> tuple[re.Pattern, re.Pattern, re.Pattern, dict[bytes, re.Pattern]]:
    """Return what finds tokens, a long run of what needs no look, whole rows of literals, and the ends of strings.

    Args:
        escapes: whether a backslash in a string escapes what follows.
        ends: the first byte of what ends statements.
    """
    inner = {
        quote: b"[^%b\\\\]*+(?:\\\\.[^%b\\\\]*+)*+" % (quote, quote) if escapes else b"[^%b]*+" % quote
        for quote in (b"'", b'"')
    }
    inner[b"`"] = b"[^`]*+"
    strings = {quote: quote + text + quote for quote, text in inner.items()}
    token = re.compile(
        rb"(?P<space>\s+)"
        rb"|(?P<blank>(?:/\*M!|%b).*?\*/)"
        rb"|(?P<comment>--(?=[\x00-\x20])[^\n]*|--\Z|\#[^\n]*|/\*(?![!]).*?\*/)"
        rb"|(?P<open>/\*!\d*)|(?P<close>\*/)"
        rb"|(?P<string>%b|%b)|(?P<name>%b)"
        rb"|(?P<word>[0-9A-Za-z_$\x80-\xff]+)"
        rb"|(?P<op>.)" % (LATER.pattern, strings[b"'"], strings[b'"'], strings[b"`"]),
        re.DOTALL,
    )
    rows = re.compile(
        rb"(?:[^'\"`#\\/\x00\-%b]++|-(?!-)|/(?!\*)|%b|%b|%b)*+"
        % (re.escape(ends), strings[b"'"], strings[b'"'], strings[b"`"]),
        re.DOTALL,
    )
    whole = re.compile(
        rb"(?:\s*+\((?:[^'\"`()#\\/\x00\-;]++|-(?!-)|\\N|%b|%b)*+\)\s*+,)*+" % (strings[b"'"], strings[b'"']), re.DOTALL
    )
    return token, rows, whole, {quote: re.compile(text + quote, re.DOTALL) for quote, text in inner.items()}


class Token:
    """A piece of a dump: its kind, its bytes, which may be changed, and the line where it begins."""

    __slots__ = ("kind", "line", "text")

    def __init__(self, kind: str, text: bytes, line: int) -> None:
        """Describe it."""
        self.kind, self.text, self.line = kind, text, line

    @property
    def word(self) -> str:
        """What it says, as a keyword."""
        return self.text.decode(errors="replace").upper() if self.kind in ("word", "op") else ""

    @property
    def value(self) -> str:
        """What it names."""
        text = self.text.decode(errors="replace")
        return text[1:-1].replace(text[0] * 2, text[0]) if self.kind in ("name", "string") else text

    def blank(self) -> None:
        """Leave it out; the lines stay."""
        self.text = re.sub(rb"[^\n]+", b" ", self.text)


class Fitter:
    """Makes a dump fit a database: after ``fit``, ``problems`` and ``notes`` say what is wrong and what was changed."""

    def __init__(self, database: str, user: str) -> None:
        """Fit dumps for a schema and the account of the application."""
        self.database, self.user = database, user
        self.problems: list[tuple[int, str]] = []
        # What was changed, how often and where first.
        self.notes: dict[str, tuple[int, int]] = {}
        self.line, self.delimiter, self.escapes = 1, b";", True
        # Whether the dump says its encoding, and the first line that is not in UTF-8.
        self.encoded, self.odd = False, 0

    def wrong(self, line: int, text: str) -> None:
        """Note a problem."""
        self.problems.append((line, text))

    def changed(self, line: int, text: str) -> None:
        """Note a change."""
        count, first = self.notes.get(text, (0, line))
        self.notes[text] = (count + 1, first)

    def fit(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the dump as the database takes it."""
        self.source, self.buffer, self.position, self.ended = iter(chunks), b"", 0, False
        self.tokens: list[Token] = []
        # Those of them that say something.
        self.said: list[Token] = []
        self.size, self.streaming, self.again = 0, False, b""
        self.compile()
        self.more()
        while self.position < len(self.buffer) or not self.ended:
            if len(self.buffer) - self.position < 64 and not self.ended:
                self.more()
                continue
            if self.streaming and len(self.delimiter) == 1:
                yield from self.rows()
                if self.position >= len(self.buffer):
                    continue
            token = self.next()
            if token is None:
                yield from self.long()
                continue
            yield from self.take(token)
        yield from self.finish()

    def compile(self) -> None:
        """Prepare for the present delimiter and mode."""
        self.token, self.run, self.whole, self.ends = _patterns(self.escapes, self.delimiter[:1])

    def more(self) -> None:
        """Read on."""
        chunk = next(self.source, None)
        self.ended = chunk is None
        self.buffer, self.position = self.buffer[self.position :] + (chunk or b""), 0

    def consume(self, end: int) -> bytes:
        """Return what is in the buffer up to there, and go on behind it."""
        text = self.buffer[self.position : end]
        self.position = end
        self.line += text.count(b"\n")
        return text

    def rows(self) -> Iterator[bytes]:
        """Yield a long run of what needs no look, up to what does."""
        while self.again:
            # In steps, because a long match takes memory for each row; one row may be longer.
            end = self.whole.match(self.buffer, self.position, self.position + STEP).end()
            if end == self.position:
                end = self.whole.match(self.buffer, self.position).end()
            if end > self.position:
                self.size += end - self.position
                yield self.consume(end - 1)
                comma = self.consume(end)
                if self.size > SPLIT:
                    comma, self.size = self.delimiter + b" " + self.again + b" ", 0
                yield comma
                continue
            if self.ended or len(self.buffer) - self.position > CHUNK:
                # The last row, or one of more than literals.
                self.again = b""
            else:
                self.more()
        end = self.run.match(self.buffer, self.position).end()
        # The rest of a comment's beginning may be in the next chunk.
        if end == len(self.buffer) and not self.ended and self.buffer[end - 1 : end] in (b"-", b"/"):
            end -= 1
        if end > self.position:
            yield self.consume(end)

    def next(self) -> Token | None:
        """Return the next token, or None if one is so long that it is not looked at as a whole."""
        while True:
            line = self.line
            if self.buffer.startswith(self.delimiter, self.position):
                return Token("end", self.consume(self.position + len(self.delimiter)), line)
            match = self.token.match(self.buffer, self.position)
            # What begins a string or a comment and is not one as a whole, so that its end is still to be read.
            cut = match.lastgroup == "op" and (match[0] in b"'\"`" or self.buffer.startswith(b"/*", self.position))
            cut = cut or (match.lastgroup == "open" and LATER.fullmatch(match[0]))
            if not cut and (match.end() < len(self.buffer) or self.ended):
                return Token(match.lastgroup, self.consume(self.cut(match)), line)
            if self.ended or len(self.buffer) - self.position > WHOLE:
                return None
            self.more()

    def cut(self, match: re.Match) -> int:
        """Return where a token ends, which the delimiter may come before: ``END$$``."""
        if match.lastgroup == "word":
            found = self.buffer.find(self.delimiter, match.start(), match.end())
            if found > 0:
                return found
        return match.end()

    def long(self) -> Iterator[bytes]:
        """Yield a string or comment that is longer than what is held, or say that it does not end."""
        yield from self.flush()
        begin, line = self.buffer[self.position : self.position + 1], self.line
        yield self.consume(self.position + (2 if begin == b"/" else 1))
        while True:
            if begin == b"/":
                found = self.buffer.find(b"*/", self.position)
                end = found + 2 if found >= 0 else -1
            else:
                match = self.ends[begin].match(self.buffer, self.position)
                end = match.end() if match else -1
            if end >= 0:
                yield self.consume(end)
                return
            if self.ended:
                what = "a comment" if begin == b"/" else f"text in {begin.decode()}"
                self.wrong(line, f"{what} begins and does not end; the file is incomplete, or a quote is missing")
                yield self.consume(len(self.buffer))
                return
            stop = len(self.buffer) - 1
            # An escaped character may be cut in two.
            while begin != b"/" and self.escapes and stop > self.position and self.buffer[stop - 1 : stop] == b"\\":
                stop -= 1
            yield self.consume(max(stop, self.position))
            self.more()

    def take(self, token: Token) -> Iterator[bytes]:
        """Take a token into the statement, and yield the statement when it is known."""
        if token.kind == "op" and token.text == b"\0":
            raise DumpError(f"line {token.line} holds bytes that are no text")
        if token.text == b"\\" and token.kind == "op" and self.buffer[self.position : self.position + 1] != b"N":
            self.wrong(token.line, "a backslash outside of text, which is a command of MySQL's client")
        if token.kind == "blank":
            # Not for this server; its client would take a backslash in it for a command.
            token.blank()
        if self.streaming:
            yield token.text
            self.streaming = token.kind != "end"
            return
        if not self.tokens and token.kind in ("space", "comment", "blank"):
            # Before a statement, however much of it there is.
            yield token.text
            return
        first = self.said[0].word if self.said else token.word if token.kind == "word" else ""
        if first == "DELIMITER" and not self.said:
            yield from self.redefine(token)
            return
        named = len(self.said) > 1
        self.tokens.append(token)
        if token.kind in ("word", "name", "string", "op"):
            self.said.append(token)
        self.size += len(token.text)
        if token.kind == "end" or (first == "USE" and named and token.kind == "space" and b"\n" in token.text):
            if token.kind != "end":
                # The client takes the line for the statement.
                self.tokens.insert(-1, Token("end", self.delimiter, token.line))
            yield from self.flush()
            self.streaming = False
        elif first in ("INSERT", "REPLACE") and token.word in ("VALUES", "VALUE"):
            plain = all(item.kind != "comment" for item in self.tokens)
            yield from self.flush()
            self.again = b" ".join(self.header.split(b"\n")) if plain else b""
        elif self.size > WHOLE or (first in ("INSERT", "REPLACE") and len(self.tokens) > ROWS):
            yield from self.flush()

    def redefine(self, token: Token) -> Iterator[bytes]:
        """Yield a line with the command DELIMITER, and follow it."""
        while b"\n" not in self.buffer[self.position :] and not self.ended:
            self.more()
        end = self.buffer.find(b"\n", self.position)
        line = self.consume(end if end >= 0 else len(self.buffer))
        words = line.split()
        yield from (item.text for item in self.tokens)
        self.tokens, self.said, self.size = [], [], 0
        if not words:
            self.wrong(token.line, "DELIMITER names none")
            return
        self.delimiter = words[0]
        self.compile()
        yield b"DELIMITER " + words[0]

    def flush(self) -> Iterator[bytes]:
        """Yield the statement, judged; what follows of it is not looked at."""
        if self.tokens:
            if self.said:
                self.judge(self.said)
            elif self.tokens[-1].kind == "end":
                self.tokens.insert(-1, Token("op", NOTHING, self.line))
            self.header = b"".join(token.text for token in self.tokens)
            yield self.header
        self.tokens, self.said, self.size, self.streaming, self.again = [], [], 0, True, b""

    def finish(self) -> Iterator[bytes]:
        """Yield the last statement, which may lack its end."""
        yield from self.flush()
        if self.odd and not self.encoded:
            self.wrong(
                self.odd,
                "text that is not UTF-8, and no statement SET NAMES says what it is; add SET NAMES latin1 for example, or"
                " convert it to UTF-8",
            )

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
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DumpError(f"it cannot be decompressed ({error}); is the file complete?") from None
    except OSError as error:
        if error.errno is None:
            raise DumpError(f"it cannot be decompressed ({error}); is the file complete?") from None
        raise


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
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DumpError("it is in UTF-32; convert it to UTF-8")
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
