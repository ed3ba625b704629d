"""Results as folders that are whole or not there."""

from fastann.storage.files import check_file, write_array, write_file, write_text
from fastann.storage.folder import amend_files, amend_run, begin_run, check_target, write_folder, write_run
from fastann.storage.manifest import CHECKPOINTS, COMPLETE, MANIFEST, RunError, is_running
from fastann.storage.reading import read_folder, read_manifest, read_run, rested, steady

__all__ = [
    "CHECKPOINTS",
    "COMPLETE",
    "MANIFEST",
    "RunError",
    "amend_files",
    "amend_run",
    "begin_run",
    "check_file",
    "check_target",
    "is_running",
    "read_folder",
    "read_manifest",
    "read_run",
    "rested",
    "steady",
    "write_array",
    "write_file",
    "write_folder",
    "write_run",
    "write_text",
]
