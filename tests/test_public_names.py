"""The names that users rely on: adding or removing one is a decision, made here too."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import calib

PUBLIC = {
    "CalibError",
    "Certificate",
    "CertificateScope",
    "Closure",
    "Credentials",
    "ExpiryCalendar",
    "Event",
    "Fit",
    "FitSettings",
    "FitState",
    "Forbidden",
    "ForwardSource",
    "InvalidQuoteTable",
    "InvalidRequest",
    "InvalidSurface",
    "LossName",
    "Memory",
    "ModelName",
    "NotFitted",
    "QuoteTable",
    "Reason",
    "SimulatorSettings",
    "Surface",
    "Unavailable",
    "VarianceClock",
    "VolState",
    "WeeklyClosure",
    "black_price",
    "connect",
    "fit",
    "fit_many",
    "implied_vol",
    "implied_vol_state",
    "open_store",
    "plot",
    "quotes_from_frame",
    "read_quotes",
    "sample_quotes",
    "simulate",
}


def test_the_public_names_are_these() -> None:
    assert set(calib.__all__) == PUBLIC
    assert set(dir(calib)) >= PUBLIC | {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(calib, name))


def test_what_type_checkers_read_is_what_is_loaded() -> None:
    tree = ast.parse(Path(calib.__file__).read_text(encoding="utf-8"))
    declared = {
        str(alias.asname): f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("calib.")
        for alias in node.names
    }
    assert set(declared) == PUBLIC
    for public, path in declared.items():
        module, _, name = path.rpartition(".")
        home = importlib.import_module(module)
        assert getattr(home, name) is getattr(calib, public)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'calib' has no attribute 'implied_volatility'"):
        _ = calib.implied_volatility


def test_the_version_is_that_of_the_package() -> None:
    assert calib.__version__.count(".") == 2
