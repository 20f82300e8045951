"""The settings that a server would run with, written as the file that would give the same."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from calib.conventions import iso
from calib.service.protection.tls import server_credentials
from calib.service.protection.tokens import Tokens
from calib.service.settings import ServiceSettings, named_in
from calib.store import shown_url

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def check_files(settings: ServiceSettings) -> None:
    """Raise InvalidRequest where a file that the settings name cannot be used by the server."""
    if settings.tls is not None:
        server_credentials(settings.tls)
    if settings.tokens is not None:
        Tokens(settings.tokens, settings.identities)


def effective(
    settings: ServiceSettings, config: Path | None = None, flags: Mapping[str, Any] | None = None
) -> str:
    """TOML of all settings, in order; what is not a default says where it comes from.

    The password in a store's URL is masked.
    """
    sources = _sources(config, flags or {})
    values: list[str] = []
    tables: list[str] = []
    for name in ServiceSettings.model_fields:
        value = _plain(getattr(settings, name))
        if name == "store" and settings.store is not None:
            value = shown_url(settings.store)
        source = f"  # {sources[name]}" if name in sources else ""
        if isinstance(value, dict):
            tables += _table(name, value, source)
        else:
            values.append(f"{name} = {_inline(value)}{source}")
    return "\n".join([*values, *tables]) + "\n"


def _sources(config: Path | None, flags: Mapping[str, Any]) -> dict[str, str]:
    """Where each setting comes from, the strongest last."""
    environment = {name.upper() for name in os.environ}
    prefix = ServiceSettings.model_config["env_prefix"]
    found = {} if config is None else dict.fromkeys(named_in(config), str(config))
    for name in ServiceSettings.model_fields:
        variable = f"{prefix}{name}".upper()
        if variable in environment:
            found[name] = variable
        if flags.get(name) is not None:
            found[name] = f"--{name.replace('_', '-')}"
    return found


def _plain(value: Any) -> Any:
    """A setting in values that TOML has."""
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.datetime64):
        return iso(value)
    if isinstance(value, BaseModel):
        return _plain({name: getattr(value, name) for name in type(value).model_fields})
    if is_dataclass(value):
        named = {one.name: getattr(value, one.name) for one in fields(value)}
        return _plain({name: one for name, one in named.items() if _settable(name, one)})
    if isinstance(value, Mapping):
        return {_key(name): _plain(one) for name, one in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value


def _settable(name: str, value: object) -> bool:
    """Whether a field of a table can be set: of thresholds, see monitor_settings, numbers only."""
    if isinstance(value, tuple):
        return all(is_dataclass(one) for one in value)
    return name != "quote_max_age_seconds" and value is not None and not isinstance(value, bool)


def _key(name: object) -> str:
    return name.name.lower() if hasattr(name, "name") else str(name)


def _table(path: str, table: Mapping[str, Any], source: str) -> Iterator[str]:
    """A table and the tables in it, each under its heading."""
    values = {name: one for name, one in table.items() if not isinstance(one, dict)}
    if values or not table:
        yield f"\n[{path}]{source}"
        yield from (f"{_name(name)} = {_inline(one)}" for name, one in values.items())
    for name, one in table.items():
        if isinstance(one, dict):
            yield from _table(f"{path}.{_name(name)}", one, source)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_name(key)} = {_inline(one)}' for key, one in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are TOML as they are
    return json.dumps(value, ensure_ascii=False)


def _name(text: str) -> str:
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
