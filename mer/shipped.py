"""Where the files that live beside the package are: in the checkout, or inside the wheel."""

from pathlib import Path


def shipped(name: str) -> Path:
    """A shipped file or folder, e.g. `configs/quickstart.yaml`."""
    package = Path(__file__).parent
    inside = package / "_shipped" / name
    return inside if inside.exists() else package.parent / name
