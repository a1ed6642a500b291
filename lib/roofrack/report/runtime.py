"""The JavaScript that draws charts in a page: Vega, Vega-Lite and Vega-Embed as one script.

vl-convert holds the sources; bundling them takes seconds, so the result is kept in the user's cache
folder under its version. A missing, damaged or read-only cache only costs time.
"""

import functools
import hashlib
from collections.abc import Callable
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from roofrack import caching
from roofrack.report.specs import VEGA_LITE


def versions() -> dict[str, str]:
    """Return the versions of what is in the bundle."""
    import vl_convert

    return {
        "vega": vl_convert.get_vega_version(),
        "vega-lite": VEGA_LITE,
        "vega-embed": vl_convert.get_vega_embed_version(),
    }


def notices() -> str:
    """Return copyright notices and licences of everything in the bundle, as plain text."""
    return files("roofrack.report").joinpath("static/NOTICES.txt").read_text(encoding="utf-8")


@functools.cache
def bundle() -> str:
    """Return the script that defines `vegaEmbed`, safe to stand inside a `<script>` element."""
    path = caching.cache_folder() / f"vega-{metadata.version('vl-convert-python')}-{VEGA_LITE}.js"
    cached = _read(path)
    if cached is not None:
        return cached
    import vl_convert

    # The stub wants a snippet of the bundle's own; it is optional.
    make: Callable[..., str] = vl_convert.javascript_bundle
    script = make(vl_version=VEGA_LITE)
    # Inside a string, <\/ is the same as </ ; outside of one neither sequence occurs.
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    _write(path, script)
    return script


def _read(path: Path) -> str | None:
    """Return the cached script, or None if it is absent or does not match its own checksum."""
    try:
        head, _, script = path.read_bytes().decode("utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return script if head == _checksum(script) else None


def _write(path: Path, script: str) -> None:
    """Write the script so that another process sees all of it or nothing."""
    caching.keep(path, f"{_checksum(script)}\n{script}".encode())


def _checksum(script: str) -> str:
    return f"// sha256 {hashlib.sha256(script.encode()).hexdigest()}"
