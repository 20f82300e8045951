"""The folder of compiled fits: the server's own, or not used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from calib.service.compilation import default_cache, use_cache
from tests.service.processes import eventually, serving
from tests.service.samples import smile_quotes


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    folder = tmp_path / "a" / "b"
    assert not use_cache(folder, environment, ())
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
    assert "others can write" in use_cache(folder, environment, ())
    assert environment == {}


def test_a_folder_that_cannot_be_made_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in use_cache(tmp_path / "file" / "folder", {}, ())


def test_it_is_too_late_once_jax_is_loaded(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    assert "imported before" in use_cache(tmp_path, environment, {"jax"})
    assert environment == {}


def test_a_server_is_loaded_without_jax_so_that_it_can_be_told_where_to_keep_things() -> None:
    command = "import sys, calib.service.server; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


async def test_a_server_keeps_what_it_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    cache = tmp_path / "compiled"
    async with serving(None, COMPILATION_CACHE=str(cache), WARM_UP="false") as (_, client):
        await client.publish(smile_quotes(days=(7, 30), strikes=11))
        await eventually(lambda: any(cache.glob("*-cache")))


def test_the_default_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_cache() == Path("/cache/calib/compiled")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache() == Path("/home/someone/.cache/calib/compiled")
