"""Whether the files compiled for one instruction set keep to themselves.

Such a file must not leave inline functions that the linker shares with others (it keeps one copy, which may need
instructions that this CPU lacks), nor anything that runs when the library is loaded, before instructions are chosen.
"""

import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build"
ALLOWED = ("DW.ref.__gxx_personality_v0",)  # shared by all, and data


def faults(path: Path) -> list[str]:
    """What a file should not have."""
    symbols = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
    weak = [line.split(None, 2)[2] for line in symbols.splitlines() if line[17:18] in "WVuw" and line[:16].strip()]
    sections = subprocess.run(["objdump", "-h", str(path)], capture_output=True, text=True, check=True).stdout
    found = [f"weak symbol {name}" for name in weak if name not in ALLOWED]
    return found + (["code that runs on loading"] if ".init_array" in sections or ".ctors" in sections else [])


def main() -> None:
    """Look at the newest build."""
    files = [
        path for folder in ("isa", "screen") for path in BUILD.glob(f"cp*/CMakeFiles/fastann_core.dir/src/{folder}/*.o")
    ]
    files = [path for path in files if path.name != "packed.cpp.o"]
    if not files:
        sys.exit(f"no object files under {BUILD}: run make first")
    wrong = [f"{path.name}: {fault}" for path in files for fault in faults(path)]
    said = "; ".join(wrong) or "nothing shared, nothing that runs on loading"
    print(f"{len(files)} files for single instruction sets: {said}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
