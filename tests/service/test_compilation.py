"""The folder of compiled fits: the server's own, or not used."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.service.compilation import default_cache, use_cache


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    folder = tmp_path / "a" / "b"
    assert not use_cache(folder, environment)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert environment["JAX_COMPILATION_CACHE_DIR"] == str(folder)


def test_what_the_environment_says_stands(tmp_path: Path) -> None:
    environment = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    assert not use_cache(tmp_path / "mine", environment)
    assert environment["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, mode: int) -> None:
    environment: dict[str, str] = {}
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    assert "others can write" in use_cache(folder, environment)
    assert environment == {}


def test_a_folder_that_cannot_be_made_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in use_cache(tmp_path / "file" / "folder", {})


def test_the_default_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_cache() == Path("/cache/calib/compiled")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache() == Path("/home/someone/.cache/calib/compiled")
