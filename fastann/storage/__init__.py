"""Results as folders that are whole or not there."""

from fastann.storage.folder import (
    CHECKPOINTS,
    COMPLETE,
    MANIFEST,
    RunError,
    begin_run,
    check_file,
    check_target,
    is_running,
    read_folder,
    read_manifest,
    read_run,
    write_array,
    write_file,
    write_folder,
    write_run,
    write_text,
)

__all__ = [
    "CHECKPOINTS",
    "COMPLETE",
    "MANIFEST",
    "RunError",
    "begin_run",
    "check_file",
    "check_target",
    "is_running",
    "read_folder",
    "read_manifest",
    "read_run",
    "write_array",
    "write_file",
    "write_folder",
    "write_run",
    "write_text",
]
