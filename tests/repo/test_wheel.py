"""The wheel holds everything, and works away from the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    # The tests' own settings must not hide what a user would meet.
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ROOFRACK", "JAX_NUMPY"))
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built through the source distribution as an installer would; no network."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, repo, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script folder of a fresh environment with the wheel in it.

    Its dependencies are those of this environment, by path: copying them takes a minute and proves
    nothing. `.pth` files of that folder are not read, so this environment's editable roofrack stays
    out of sight.
    """
    root = tmp_path_factory.mktemp("venv")
    venv.create(root, with_pip=False, symlinks=os.name != "nt")
    scripts = root / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=root)
    site = run(
        scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=root
    )
    Path(site.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def test_wheel_holds_configs_questions_types_and_licences(wheel: Path, repo: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "experiments"):
        shipped = [p for p in (repo / folder).rglob("*") if p.suffix in (".yaml", ".py")]
        assert shipped and {f"roofrack/{p.relative_to(repo).as_posix()}" for p in shipped} <= names
    assert "roofrack/py.typed" in names
    assert any(name.startswith("hydra_plugins/") for name in names)
    assert {name.rsplit("/", 1)[-1] for name in names} >= {"LICENSE", "NOTICE"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_installed_command_works_away_from_the_checkout(
    installed: Path, repo: Path, tmp_path: Path
):
    where = run(
        installed / "python", "-c", "import roofrack; print(roofrack.__file__)", cwd=tmp_path
    )
    assert not Path(where.strip()).is_relative_to(repo)
    assert "point" in run(installed / "roofrack", "--help", cwd=tmp_path)
    answer = run(
        installed / "roofrack", "point", "hardware=blackboard", "model=blackboard", cwd=tmp_path
    )
    assert "step_s" in answer or "step" in answer.lower()
    assert not list(tmp_path.iterdir())  # `point` writes nothing
