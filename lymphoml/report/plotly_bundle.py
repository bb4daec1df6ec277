"""plotly's script for a page of its own: 4.8 MB, or 1.5 MB compressed, which browsers unpack."""

import base64
import gzip
from functools import cache
from importlib.resources import files


@cache
def plotly_bundle() -> str:
    """gzip in base64, the same bytes each time; 2.0 MB of text.

    The Python package ships the full bundle only. Browsers since 2023 know `DecompressionStream`;
    an older one keeps the static charts.
    """
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 9, mtime=0)).decode()
