"""File formats, a module per family, and the table of them all.

A new format is a module here with a function or class that takes a path and `Options` and gives a `Source` (see
`fastann.data.formats.file`), and one line in `FORMATS`: its suffix, that function, and the options that it takes.
"""

from fastann.data.formats.arrays import HDF5, Zarr
from fastann.data.formats.file import Format
from fastann.data.formats.lists import Arrow, Parquet
from fastann.data.formats.mapped import BINS, VECS, big_ann, npy, raw, vecs
from fastann.data.formats.safetensors import safetensors
from fastann.data.formats.sparse import npz
from fastann.data.formats.text import text

RAW = (".bin", ".raw")
TEXT = (".csv", ".tsv")  # which may as well hold labels or names of the rows of other files

FORMATS = {
    ".npy": Format(npy, ("dtype", "d")),
    ".npz": Format(npz, ("column", "dtype")),
    ".parquet": Format(Parquet, ("column", "id_column")),
    ".arrow": Format(Arrow, ("column", "id_column")),
    ".feather": Format(Arrow, ("column", "id_column")),
    ".h5": Format(HDF5, ("column", "dtype")),
    ".hdf5": Format(HDF5, ("column", "dtype")),
    ".zarr": Format(Zarr, ("column", "dtype")),
    ".safetensors": Format(safetensors, ("column",)),
    **dict.fromkeys(VECS, Format(vecs)),
    **dict.fromkeys(BINS, Format(big_ann)),
    **dict.fromkeys(RAW, Format(raw, ("dtype", "d"))),
    **dict.fromkeys(TEXT, Format(text, ("column", "id_column"))),
}
