"""What must hold for every file of the repository, and which files must agree."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

# A path that exists on one machine only. Parts of a longer path or of a URL do not count.
MACHINE_PATH = re.compile(
    r"(?<![\w.\-}/])/(?:home|root|Users|work|tmp|mnt)/\w|[A-Z]:\\Users|file:///\w"
)
# A package index or mirror that one builder uses.
INDEX_ADDRESS = re.compile(
    r"(?:index[-_]url|find[-_]links|UV_\w*INDEX)\W{1,3}(?:https?:|file:|/)"
    r"|files\.pythonhosted|https?://\S+/simple(?![\w-])",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def tracked(repo: Path) -> dict[str, str]:
    """Name and text of each text file that git tracks or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repo,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, listing.stdout.split("\0")):
        try:
            texts[name] = (repo / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
    return texts


@pytest.mark.parametrize("pattern", [MACHINE_PATH, INDEX_ADDRESS], ids=["path", "index"])
def test_no_file_names_a_machine_or_an_index(tracked: dict[str, str], pattern: re.Pattern[str]):
    this_file = "tests/repo/test_tree.py"
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in tracked.items()
        if name != this_file
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("pattern", "text", "caught"),
    [
        (MACHINE_PATH, "read /home/ann/data.csv", True),
        (MACHINE_PATH, '"/tmp/report.html"', True),
        (MACHINE_PATH, "https://example.org/work/page", False),
        (MACHINE_PATH, "${dir}/tmp/x and outputs/work/y", False),
        (INDEX_ADDRESS, "--extra-index-url https://mirror.example/py", True),
        (INDEX_ADDRESS, "https://mirror.example/pypi/simple/", True),
        (INDEX_ADDRESS, "--no-emit-index-url -o requirements.lock", False),
    ],
)
def test_the_patterns_catch_what_they_should(pattern: re.Pattern[str], text: str, caught: bool):
    assert bool(pattern.search(text)) is caught


def test_lock_holds_names_and_versions_only(repo: Path):
    lines = (repo / "requirements.lock").read_text().splitlines()
    pinned = re.compile(r"^[a-z0-9][a-z0-9._-]*==[\w.+!]+( ; [\w'\"<>=!. ()]+)?$")
    assert lines and not [line for line in lines if not pinned.match(line)]


def test_lock_covers_every_declared_requirement(repo: Path):
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.match(r"[\w-]+", line)[0].lower() for line in declared}
    locked = {line.split("==")[0] for line in (repo / "requirements.lock").read_text().splitlines()}
    assert names <= locked, f"run `make lock`: {sorted(names - locked)} missing"


def test_lock_serves_old_and_new_interpreters(repo: Path):
    jax = [
        line for line in (repo / "requirements.lock").read_text().splitlines() if "jax==" in line
    ]
    assert [line.split(" ; ")[1] for line in jax] == [
        "python_full_version < '3.12'",
        "python_full_version >= '3.12'",
    ]


def test_version_is_the_same_everywhere(repo: Path):
    version = tomllib.loads((repo / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((repo / "CITATION.cff").read_text())
    headings = re.findall(r"^## \[(.+?)\]", (repo / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == version
    assert version in headings[:2]  # the newest release, or right under "Unreleased"


def test_only_the_entry_points_know_the_questions(repo: Path):
    """An arrow import-linter cannot see: `experiments` joins the package when installed."""
    into = re.compile(r"^\s*(?:from|import) roofrack(?:\.| import )experiments", re.MULTILINE)
    users = {path.name for path in (repo / "lib").rglob("*.py") if into.search(path.read_text())}
    assert users <= {"cli.py", "api.py"}


def test_contributing_stays_short(repo: Path):
    assert len((repo / "CONTRIBUTING.md").read_text().splitlines()) < 60
