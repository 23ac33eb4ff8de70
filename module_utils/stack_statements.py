"""A dump as a stream of statements, read by the rules of MySQL's manual, in constant memory.

See "Comments", "String Literals" and "mysql Client Commands" there. Possessive quantifiers see to it that a long run is
never tried a second time; they come from ``regex``, because those of ``re`` are wrong in Python 3.11.2. Every line stays the
same line, so that the number in an error of the server is that of the user's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
# A statement that does nothing; the server takes an empty one for an error.
NOTHING = b"DO 0"


class DumpError(Exception):
    """The text says why a dump cannot be read at all."""


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


class Reader:
    """Reads a dump and lets ``judge`` change each statement; what that finds stands in ``problems`` and ``notes``."""

    def __init__(self) -> None:
        """Begin with what a server begins with."""
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

    def judge(self, said: list[Token]) -> None:
        """Change the tokens of a statement, or say what is wrong with it."""
        raise NotImplementedError

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
        """Prepare what finds tokens, a long run of what needs no look, whole rows, and the ends of strings and comments."""
        inner = {
            quote: b"[^%b\\\\]*+(?:\\\\.[^%b\\\\]*+)*+" % (quote, quote) if self.escapes else b"[^%b]*+" % quote
            for quote in (b"'", b'"')
        }
        inner[b"`"] = b"[^`]*+"
        single, double, name = (quote + text + quote for quote, text in inner.items())
        self.token = re.compile(
            rb"(?P<space>\s+)"
            rb"|(?P<blank>(?:/\*M!|%b).*?\*/)"
            rb"|(?P<comment>--(?=[\x00-\x20])[^\n]*|--\Z|\#[^\n]*|/\*(?![!]).*?\*/)"
            rb"|(?P<open>/\*!\d*)|(?P<close>\*/)"
            rb"|(?P<string>%b|%b)|(?P<name>%b)"
            rb"|(?P<word>[0-9A-Za-z_$\x80-\xff]+)"
            rb"|(?P<op>.)" % (LATER.pattern, single, double, name),
            re.DOTALL,
        )
        self.run = re.compile(
            rb"(?:[^'\"`#\\/\x00\-%b]++|-(?!-)|/(?!\*)|%b|%b|%b)*+" % (re.escape(self.delimiter[:1]), single, double, name),
            re.DOTALL,
        )
        self.whole = re.compile(
            rb"(?:\s*+\((?:[^'\"`()#\\/\x00\-;]++|-(?!-)|\\N|%b|%b)*+\)\s*+,)*+" % (single, double), re.DOTALL
        )
        self.ends = {quote: re.compile(text + quote, re.DOTALL) for quote, text in inner.items()}
        self.ends[b"/"] = re.compile(rb"[^*]*+(?:\*(?!/)[^*]*+)*+\*/")

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
                end = match.end()
                # The delimiter may come before it: END$$.
                if match.lastgroup == "word" and (found := self.buffer.find(self.delimiter, match.start(), end)) > 0:
                    end = found
                return Token(match.lastgroup, self.consume(end), line)
            if self.ended or len(self.buffer) - self.position > WHOLE:
                return None
            self.more()

    def long(self) -> Iterator[bytes]:
        """Yield a string or comment that is longer than what is held, or say that it does not end."""
        yield from self.flush()
        begin, line = self.buffer[self.position : self.position + 1], self.line
        yield self.consume(self.position + (2 if begin == b"/" else 1))
        while True:
            if match := self.ends[begin].match(self.buffer, self.position):
                yield self.consume(match.end())
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
