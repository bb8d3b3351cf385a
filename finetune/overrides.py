"""Unknown keys and `--set a.b=value`: both are checked against a Struct tree.

Knows no particular configuration.
"""

import difflib
import tomllib
from typing import Any, Literal, get_args, get_origin

import msgspec

from finetune.errors import ConfigError


def check_keys(tree: dict[str, Any], struct: type[msgspec.Struct], *, where: str) -> None:
    """Refuse the first key that the Struct tree does not have, with a suggestion."""
    _check(tree, struct, "", where)


def _check(tree: dict[str, Any], struct: type[msgspec.Struct], prefix: str, where: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if key not in fields:
            raise ConfigError(f"{where}: unknown key `{dotted}`{_suggest(key, prefix, fields)}")
        inner = fields[key]
        if _is_table(inner):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: `{dotted}` is a table; write `{dotted}.KEY`")
            _check(value, inner, f"{dotted}.", where)


def _suggest(key: str, prefix: str, fields: dict[str, Any]) -> str:
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    if near:
        return f" (did you mean `{prefix}{near[0]}`?)"
    return f" (known here: {', '.join(fields)})"


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def choices_of(struct: type[msgspec.Struct], dotted: str) -> list[str]:
    """Return the values that a key may have, where there are few; nothing for an unknown key."""
    kind: Any = struct
    for key in dotted.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        kind = fields.get(key)
        if not _is_table(kind):
            break
    kinds = [kind, *get_args(kind)]
    literals = [get_args(each) for each in kinds if get_origin(each) is Literal]
    named = [str(value) for values in literals for value in values]
    return named + ["true", "false"] * (bool in kinds)


def apply_overrides(
    tree: dict[str, Any], overrides: list[str], struct: type[msgspec.Struct]
) -> None:
    """Set each `a.b=value` in the tree; a value is TOML, or a bare string when it is not."""
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set {override}: write KEY=VALUE, as in train.learning_rate=1e-4")
        branch: dict[str, Any] = {keys[-1]: _parse_value(text.strip())}
        for key in reversed(keys[:-1]):
            branch = {key: branch}
        check_keys(branch, struct, where=f"--set {override}")
        _merge(tree, branch)


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(tree: dict[str, Any], branch: dict[str, Any]) -> None:
    for key, value in branch.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value
