"""Values as JSON documents, exactly: every double keeps its bits, nan and infinities too."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def canonical(document: Any) -> str:
    """The one text of a document: equal documents have equal texts."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def scalars_to_document(values: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars by name as JSON, which knows no nan: what is not finite becomes ``{"float": "nan"}``.

    Scalars are never objects, so that no text is taken for one.
    """
    return {name: _written(value) for name, value in values.items()}


def scalars_from_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `scalars_to_document`."""
    return {
        name: float(value["float"]) if isinstance(value, Mapping) else value
        for name, value in document.items()
    }


def _written(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    return value
