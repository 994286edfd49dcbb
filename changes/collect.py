"""Move the change fragments into CHANGELOG.md under a version."""

import datetime as dt
import sys
from pathlib import Path

KINDS = ("added", "changed", "fixed", "removed")


def main(version: str) -> None:
    folder = Path(__file__).parent
    lines = [f"## {version} ({dt.datetime.now(dt.UTC):%Y-%m-%d})", ""]
    taken = []
    for kind in KINDS:
        fragments = sorted(folder.glob(f"*.{kind}.md"))
        if fragments:
            lines += [f"### {kind.capitalize()}", ""]
            lines += ["- " + " ".join(f.read_text().split()) for f in fragments] + [""]
            taken += fragments
    if not taken:
        sys.exit("there are no fragments in changes/")
    changelog = folder.parent / "CHANGELOG.md"
    head, _, rest = changelog.read_text().partition("\n## ")
    changelog.write_text(
        head.rstrip() + "\n\n" + "\n".join(lines) + (f"\n## {rest}" if rest else "")
    )
    for fragment in taken:
        fragment.unlink()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else sys.exit("which version? VERSION=x.y.z"))
