"""What commands compile is kept between runs, where the server keeps it too."""

from __future__ import annotations

from calib.cli.console import complain


def keep_compiled() -> None:
    """Have what is compiled kept; to be called before the imports that bring in jax."""
    from calib.service.compilation import default_cache, use_cache

    unused = use_cache(default_cache())
    if unused:
        complain(unused)
