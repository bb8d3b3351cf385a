r"""Compile constraints for one vocabulary, once each. Any thread.

llguidance compiles in Rust without Python's lock, in milliseconds; the table of tokens it needs is
made at the first constraint (0.3 s for 50,000 tokens, 1.1 s for 150,000). Call `prepare` away from
an event loop. Knows no sequence and no HTTP.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine.constraint import ConstraintState
from serve.engine.errors import EngineClosedError, InvalidConstraintError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llguidance._lib import JsonCompileOptions

    from serve.engine.request import Constraint

MAX_SOURCE_CHARS = 512 * 1024  # tens of milliseconds to compile
MAX_LEXER_STATES = 50_000  # 1 to 2 kB each
MAX_PREPARED = 64


# Between two values at most one blank, or a line break and its indent: a weak model that may write
# blanks writes nothing else. Formatting stays the model's own.
_JSON: JsonCompileOptions = {"whitespace_pattern": r" |\n[ \t]{0,40}"}


class Constraints:
    """Compiled constraints, the most recently used ones kept.

    `make_tokenizer` returns the llguidance tokenizer of the model; `close` before that is freed.
    """

    def __init__(self, make_tokenizer: Callable[[], Any]) -> None:
        self._make_tokenizer = make_tokenizer
        self._tokenizer: Any = None
        self._matchers: OrderedDict[Constraint, Any] = OrderedDict()
        self._lock = threading.Lock()  # of the matchers; held for microseconds
        self._compiling = threading.Lock()
        self._is_closed = False

    def prepare(self, constraint: Constraint) -> None:
        """Compile, so that `start` is quick. Raises: InvalidConstraintError, EngineClosedError."""
        self._prepared(constraint)

    def start(self, constraint: Constraint) -> ConstraintState:
        """Return the state of a new answer, compiling what was not prepared.

        Raises: InvalidConstraintError, EngineClosedError.
        """
        matcher = self._prepared(constraint).deep_copy()
        return ConstraintState(constraint, matcher, self._tokenizer)

    def close(self) -> None:
        """Wait for what is being compiled, then forget everything."""
        with self._compiling, self._lock:
            self._is_closed = True
            self._matchers.clear()
            self._tokenizer = None

    def _prepared(self, constraint: Constraint) -> Any:
        matcher = self._known(constraint)
        if matcher is not None:
            return matcher
        with self._compiling:
            matcher = self._known(constraint)
            return self._keep(constraint, self._compile(constraint)) if matcher is None else matcher

    def _known(self, constraint: Constraint) -> Any:
        with self._lock:
            if self._is_closed:
                raise EngineClosedError("the engine is closed")
            if constraint in self._matchers:
                self._matchers.move_to_end(constraint)
            return self._matchers.get(constraint)

    def _keep(self, constraint: Constraint, matcher: Any) -> Any:
        with self._lock:
            self._matchers[constraint] = matcher
            while len(self._matchers) > MAX_PREPARED:
                self._matchers.popitem(last=False)
        return matcher

    def _compile(self, constraint: Constraint) -> Any:
        """Return a matcher at its beginning, whose copies are used. Source: llguidance."""
        import llguidance

        _check_size(constraint.source)
        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer()
        grammar = _grammar(constraint)
        limits = llguidance.LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise InvalidConstraintError(_one_line(matcher.get_error()))
        _check_begins(matcher)
        return matcher


def _check_begins(matcher: Any) -> None:
    """Refuse what no text can follow, such as a rule that is only itself."""
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    if probe.is_error():
        raise InvalidConstraintError("no text follows it: it has no way to an end")


def _grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher

    source = constraint.source
    match constraint.kind:
        case "json_schema":
            return LLMatcher.grammar_from_json_schema(_schema(source), defaults=_JSON)
        case "regex":
            return LLMatcher.grammar_from_regex(source)
        case "lark":
            return LLMatcher.grammar_from_lark(source)
        case "gbnf":
            return LLMatcher.grammar_from_lark(_lark(source))


def _schema(source: str) -> str:
    """Refuse what is not an object, `false` for one, in words of ours."""
    try:
        value = msgspec.json.decode(source)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidConstraintError(f"the schema is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidConstraintError(f"the schema is {source[:40]}; it must be an object")
    return source


def _lark(source: str) -> str:
    """Translate llama.cpp's GBNF; Lark passes as it is. Raises: InvalidConstraintError."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(_without_long_escapes(source)))
    except Exception as error:  # the translator raises Exception itself
        raise InvalidConstraintError(f"the grammar is not GBNF: {_one_line(str(error))}") from error


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)


def _without_long_escapes(source: str) -> str:
    r"""Replace `\uXXXX` and `\UXXXXXXXX`, which the translator spoils, by the character itself."""
    return _ESCAPE.sub(_character, source)


def _character(found: re.Match[str]) -> str:
    digits = found.group(1) or found.group(2)
    if digits is None:
        return found.group()
    code = int(digits, 16)
    if code < 0x80:
        return f"\\x{code:02x}"
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise InvalidConstraintError(f"{found.group()} in the grammar is no character")
    return chr(code)


def _check_size(source: str) -> None:
    if len(source) > MAX_SOURCE_CHARS:
        raise InvalidConstraintError(
            f"it is {len(source)} characters long, the limit is {MAX_SOURCE_CHARS}"
        )


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line)[:500]
