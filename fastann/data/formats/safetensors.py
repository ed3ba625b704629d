"""``.safetensors``: tensors that lie in the file as they are, listed in a header."""

import json
import math
from pathlib import Path

import numpy as np

from fastann import checks
from fastann.data.formats.file import Options
from fastann.data.formats.mapped import BFloat16, Mapped, map_numbers
from fastann.data.source import Source

TENSORS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?"} | {
    f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)
}


def safetensors(path: Path, options: Options) -> Source:
    """``.safetensors``: the only 2-D tensor, or the one that `column` names."""
    size = checks.data_file(path)
    with checks.readable(path, ".safetensors"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"its header would have {length} bytes")
        listed = {name: t for name, t in json.loads(file.read(length)).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, t["shape"])) for name, t in listed.items()}
        begins, ends = ({name: int(t["data_offsets"][i]) for name, t in listed.items()} for i in (0, 1))
    name = checks.column(options.column, [n for n, shape in shapes.items() if len(shape) == 2], path, "2-D tensors")
    kind, shape, begin = str(listed[name]["dtype"]), shapes[name], begins[name]
    if kind not in TENSORS:
        raise ValueError(f"{path} holds {name!r} as {kind}, which is not read; save it as one of {', '.join(TENSORS)}")
    dtype = np.dtype(TENSORS[kind])
    checks.table(shape, dtype, f"{name!r} of {path}", empty=True)
    checks.file_size(f"{name!r} of {path}", ends[name] - begin, math.prod(shape) * dtype.itemsize, f"its shape {shape}")
    checks.file_size(path, size, 8 + length + max(ends.values()), "what its header lists")
    array = map_numbers(path, dtype, 8 + length + begin, shape)
    return (BFloat16 if kind == "BF16" else Mapped)(array, path, options, safetensors)
