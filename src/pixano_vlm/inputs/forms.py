"""The forms of manifests: what a file's name ends with -> what reads it, and what the help text calls it.

A new form is a row here and the module that it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.file import HEAD, InputFile
from pixano_vlm.pixano_jsonl.dataset_folder import is_dataset_folder

if TYPE_CHECKING:
    from pixano_vlm.inputs.columns import Reading
    from pixano_vlm.inputs.rows import Rows

__all__ = ["FORMS", "InputForm", "form_of", "is_manifest", "open_file", "words"]


@dataclass(frozen=True, slots=True)
class InputForm:
    """One form of manifest."""

    words: str
    """What it is called in a list of forms."""
    suffixes: tuple[str, ...]
    reader: str
    """The class that reads it, `module:Class` of this folder; imported when it is used: help texts need the words."""
    takes_prompt: bool = True
    """Whether `--prompt` goes with it: its records may bring none."""
    is_folder: bool = False
    """Whether it is a folder, which is known by what is in it as well as by its name."""

    def open(self, file: InputFile, reading: Reading) -> Rows:
        """The rows of a file of this form."""
        module, _, name = self.reader.partition(":")
        rows: Rows = getattr(import_module(f"pixano_vlm.inputs.{module}"), name)(file, reading)
        return rows


JSONL = InputForm("JSONL", (".jsonl", ".ndjson", ".jsonlines"), "jsonl_rows:JsonlRows", takes_prompt=False)
JSON = InputForm("JSON", (".json",), "json_rows:JsonRows", takes_prompt=False)
PIXANO = InputForm("a Pixano dataset", (".pixano",), "pixano_rows:PixanoRows", is_folder=True)
FORMS = (
    JSONL,
    JSON,
    InputForm("CSV", (".csv", ".tsv"), "csv_rows:CsvRows"),
    InputForm("Parquet", (".parquet", ".pq"), "parquet_rows:ParquetRows"),
    InputForm("Arrow", (".arrow", ".feather", ".ipc"), "arrow_rows:ArrowRows"),
    InputForm("WebDataset (.tar)", (".tar",), "tar_rows:TarRows"),
    PIXANO,
)

_CONVERSIONS = {
    ".xlsx": ("an Excel workbook", "Save the sheet as CSV."),
    ".xls": ("an Excel workbook", "Save the sheet as CSV."),
    ".ods": ("a spreadsheet", "Save the sheet as CSV."),
    ".numbers": ("a spreadsheet", "Save the sheet as CSV."),
    ".orc": ("an ORC file", 'Write Parquet: pandas.read_orc(FILE).to_parquet("data.parquet")'),
    ".avro": ("an Avro file", "Write Parquet or JSONL."),
    ".pkl": ("a pickle, which can run code when it is read", "Write Parquet or JSONL."),
    ".pickle": ("a pickle, which can run code when it is read", "Write Parquet or JSONL."),
    ".npz": ("an archive of NumPy's", "Write Parquet, or one image file each."),
    ".npy": ("an array of NumPy's", "Write Parquet, or one image file each."),
    ".h5": ("an HDF5 file", "Write Parquet, or one image file each."),
    ".hdf5": ("an HDF5 file", "Write Parquet, or one image file each."),
    ".tfrecord": ("a TFRecord file", "Write Parquet or a tar of WebDataset."),
    ".mdb": ("an LMDB database", "Write Parquet or a tar of WebDataset."),
    ".db": ("a database", "Write CSV: sqlite3 -header -csv FILE 'SELECT ...' > data.csv"),
    ".sqlite": ("a database", "Write CSV: sqlite3 -header -csv FILE 'SELECT ...' > data.csv"),
    ".zip": ("a zip archive", "Unpack it, and name the folder or the files in it."),
    ".7z": ("an archive", "Unpack it, and name the folder or the files in it."),
    ".rar": ("an archive", "Unpack it, and name the folder or the files in it."),
    ".yaml": ("a YAML file", "Write JSONL: yq -o=json -I=0 '.[]' FILE > manifest.jsonl"),
    ".yml": ("a YAML file", "Write JSONL: yq -o=json -I=0 '.[]' FILE > manifest.jsonl"),
    ".xml": ("an XML file", 'Write JSONL: {"prompt": "...", "images": ["a.jpg"]}, one per line.'),
    ".html": ("an HTML page", 'Write JSONL: {"prompt": "...", "images": ["a.jpg"]}, one per line.'),
}
"""What is not a manifest, by suffix: what it is, and what to do."""
_MAGIC = {
    b"PAR1": ".parquet",
    b"PK\x03\x04": ".xlsx or .zip",
    b"ARROW1": ".arrow",
    b"SQLite format 3": ".sqlite",
}
_TEXTS = (JSONL, JSON, FORMS[2])
_LISTS = frozenset({".txt", ".lst", ".list"})


def form_of(file: InputFile) -> InputForm | None:
    """The form that a file's name asks for, or that a folder is of by what is in it."""
    found = next((form for form in FORMS if file.suffix in form.suffixes and not form.is_folder), None)
    if found is None and file.path is not None and is_dataset_folder(file.path):
        return PIXANO
    return found


def is_manifest(file: InputFile) -> bool:
    """Whether a file's name is that of a manifest, rather than of an image or of something else."""
    return form_of(file) is not None


def words() -> str:
    """The forms, in a list."""
    names = [form.words for form in FORMS]
    return ", ".join(names[:-1]) + " or " + names[-1]


def open_file(file: InputFile, reading: Reading) -> Rows:
    """The rows of one file, by what its name ends with; without a known ending, JSONL.

    Raises:
        ManifestError: When it cannot be read, or is not a manifest.
        MissingPackageError: When what reads it is not installed.
    """
    from pixano_vlm.inputs.json_rows import is_json_values

    form = form_of(file) or JSONL
    if form.is_folder:
        return form.open(file, reading)
    if form is JSONL and is_json_values(check_lines(file)):
        form = JSON
    elif file.path is not None:  # of a file far away, each look costs time
        check_text(file, file.head(HEAD), is_text=form in _TEXTS)
    return form.open(file, reading)


def check_text(file: InputFile, head: bytes, *, is_text: bool) -> None:
    """Refuses what is often under the name of another file, and text that is not UTF-8 throughout.

    Raises:
        ManifestError: Which it is, and what to do.
    """
    if head.startswith(b"version https://git-lfs"):
        raise ManifestError(f"{file} is a pointer of Git LFS, not the file itself.", hint="Run: git lfs pull")
    if not is_text:
        return
    if (bits := _bits(head[:512])) != 8:
        raise ManifestError(
            f"{file} is not UTF-8; it looks like UTF-{bits}.",
            hint=f"Convert it: iconv -f UTF-{bits} -t UTF-8 {file.name} > utf-8{file.suffix}",
        )
    if re.match(rb"\s*<(!doctype html|html)", head[:1024], re.IGNORECASE):
        raise ManifestError(
            f"{file} is an HTML page, not a manifest.", hint="Was it fetched from a page that shows the file?"
        )


def _bits(head: bytes) -> int:
    """How many bits a character of a text has, by its mark or by where its zeros are."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"\0\0\0")):
        return 32
    is_marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    apart = abs(head[::2].count(0) - head[1::2].count(0))
    return 16 if is_marked or apart > len(head) // 4 else 8


def check_lines(file: InputFile) -> bytes:
    """The first bytes of a file that is to be read as lines.

    Raises:
        ManifestError: When it is something else.
    """
    what, hint = _CONVERSIONS.get(file.suffix, (None, None))
    if what is not None:
        raise ManifestError(f"{file.name} is {what}, not a manifest.", hint=hint)
    head = file.head(HEAD)
    for magic, suffix in _MAGIC.items():
        if head.startswith(magic):
            raise ManifestError(
                f"{file.name} is not lines of text: it begins like a file that ends with {suffix}.",
                hint="Let its name end so, or convert it to JSONL or CSV.",
            )
    check_text(file, head, is_text=True)
    if file.suffix in _LISTS and not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        raise ManifestError(
            f"{file.name} is text, not lines of JSON.",
            hint=f"If it lists images, one per line: pixano-vlm generate $(cat {file.name}) --prompt TEXT ...",
        )
    return head
