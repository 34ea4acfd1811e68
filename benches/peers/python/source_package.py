"""Brings a source package of PyPI whose installation would compile for hours: python3 source_package.py URL SHA256 DIR PART ...

Only files whose paths in the package begin with one of the parts are unpacked. What is there already is left alone.
"""

import hashlib
import io
import shutil
import sys
import tarfile
import urllib.request
from pathlib import Path


def main(url, digest, folder, *parts):
    folder = Path(folder)
    stamp = folder / "sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return
    with urllib.request.urlopen(url, timeout=180) as answer:
        package = answer.read()
    found = hashlib.sha256(package).hexdigest()
    if found != digest:
        sys.exit(f"{url} has the SHA-256 {found}, not {digest}")

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for member in archive.getmembers():
            inside = member.name.partition("/")[2]
            if member.isfile() and inside.startswith(parts):
                member.name = inside
                archive.extract(member, folder, filter="data")
    stamp.write_text(digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
