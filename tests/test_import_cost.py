"""What `import calib` and the quoting engine's side load, and what calib leaves alone."""

import subprocess
import sys
from pathlib import Path


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_calib_loads_nothing_but_the_standard_library() -> None:
    third_party = run(
        "import sys; before = set(sys.modules); import calib\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'calib'}))"
    )
    assert third_party == "[]"


def test_the_quoters_side_loads_neither_jax_nor_pandas() -> None:
    case = Path(__file__).parent / "conformance" / "svi.json"
    printed = run(
        "import json, pathlib, sys, calib\n"
        f"case = json.loads(pathlib.Path({str(case)!r}).read_text())\n"
        "client = calib.connect('127.0.0.1:1')\n"
        "surface = calib.Surface.from_json(json.dumps(case['surface']))\n"
        "nearest = surface.expiries[0]\n"
        "vol = surface.implied_vol(nearest.forward, nearest.expiry)\n"
        "print(vol > 0, {'jax', 'pandas'} & set(sys.modules))"
    )
    assert printed == "True set()"


def test_the_command_line_answers_help_without_the_heavy_rooms() -> None:
    loaded = run(
        "import sys\nfrom calib.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'jax', 'pandas', 'scipy', 'matplotlib', 'grpc', 'sqlalchemy', 'numpy'}\n"
        "print('\\nloaded:', sorted(heavy & set(sys.modules)))"
    )
    assert loaded.splitlines()[-1] == "loaded: []"


def test_jax_settings_of_the_user_stay_as_they_were() -> None:
    kept = run(
        "import jax, calib\n"
        "before = dict(jax.config.values)\n"
        "table = calib.read_quotes(calib.sample_quotes())\n"
        "calib.fit_many(table)\n"
        "calib.implied_vol(0.04, 1.0, 1.0, 0.25, 'C')\n"
        "print(before == jax.config.values, jax.config.jax_enable_x64, jax.numpy.ones(1).dtype)"
    )
    assert kept == "True False float32"
