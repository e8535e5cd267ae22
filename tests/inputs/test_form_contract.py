"""What holds for every form of manifest: read rightly, the same each time, alone and with others, whole or damaged.

A form without an example here fails, so that a new one cannot be forgotten in one of these places.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes import FakeModel, run

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.forms import FORMS, InputForm, words
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.open import Source, open_source
from pixano_vlm.inputs.template import Template

Record = dict[str, Any]
"""`id`, `prompt`, `image` and `note`, all of them text."""

RECORDS: list[Record] = [
    {"id": f"r{number}", "prompt": text, "image": "a.png", "note": f"n{number}"}
    for number, text in enumerate(("What is it?", 'a "quoted",\nlonger, one', "eine Frage: ü, 图, 🙂"))
]


def jsonl(records: Sequence[Record]) -> bytes:
    return b"".join(
        json.dumps({("images" if key == "image" else key): value for key, value in record.items()}).encode()
        + b"\n"
        for record in records
    )


def json_list(records: Sequence[Record]) -> bytes:
    return json.dumps([json.loads(line) for line in jsonl(records).splitlines()], indent=1).encode()


def csv_text(records: Sequence[Record]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def parquet(records: Sequence[Record]) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    file = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(
        arrow.Table.from_pylist(list(records)), file, row_group_size=2
    )
    return file.getvalue()


def arrow_stream(records: Sequence[Record]) -> bytes:
    """As `datasets` writes it; of files with an index there are tests in `test_arrow`."""
    arrow = pytest.importorskip("pyarrow")
    table, file = arrow.Table.from_pylist(list(records)), io.BytesIO()
    with arrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return file.getvalue()


def tar(records: Sequence[Record]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number, record in enumerate(records):
            values = {key: value for key, value in record.items() if key not in ("image", "id")}
            for end, data in (("json", json.dumps(values).encode()), ("png", image())):
                info = tarfile.TarInfo(f"{record.get('id') or number}.{end}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def pixano_lines(records: Sequence[Record]) -> bytes:
    lines = [
        {
            "id": f"record-{number}" if "prompt" in record else record["id"],
            "attrs": {"note": record["note"]},
            "views": {"image": {"uri": f"../../{record['image']}", "width": 8, "height": 8}},
            "conversations": [
                {
                    "id": record["id"],
                    "messages": [{"type": "QUESTION", "content": record["prompt"], "question_type": "OPEN"}],
                }
            ]
            if "prompt" in record
            else [],
        }
        for number, record in enumerate(records)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in [{"$pixano": "jsonl/2"}, *lines])


EXAMPLES: dict[str, Callable[[Sequence[Record]], bytes]] = {
    "JSONL": jsonl,
    "JSON": json_list,
    "CSV": csv_text,
    "Parquet": parquet,
    "Arrow": arrow_stream,
    "WebDataset (.tar)": tar,
    "a Pixano dataset": pixano_lines,
}
"""What a form is called -> a file of it with the given records."""

PADDED = {"WebDataset (.tar)"}
"""Forms with so much room at the end that cutting some of it off damages nothing."""
NAMES_ITS_RECORDS = {"WebDataset (.tar)", "a Pixano dataset"}
"""Forms in which every record has a name."""
HOLDS_IMAGES = {"WebDataset (.tar)"}
"""Forms whose images are in the file itself."""


def image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=FORMS, ids=lambda form: form.words)
def form(request: pytest.FixtureRequest, tmp_path: Path) -> InputForm:
    (tmp_path / "a.png").write_bytes(image())
    return request.param  # type: ignore[no-any-return]


def write(form: InputForm, folder: Path, records: Sequence[Record] = RECORDS, stem: str = "m") -> Path:
    path = folder / f"{stem}{form.suffixes[0]}"
    written(form, path).write_bytes(EXAMPLES[form.words](records))
    return path


def written(form: InputForm, path: Path) -> Path:
    """The file of a manifest; of a form that is a folder, the one in it."""
    if not form.is_folder:
        return path
    (path / "train").mkdir(parents=True, exist_ok=True)
    return path / "train" / "metadata.jsonl"


def read(*paths: Path, prompt: str | None = None) -> tuple[Source, list[Request]]:
    source = open_source([str(path) for path in paths], None if prompt is None else Template(prompt))
    if source.rows is not None:
        source.rows.count()  # as every run does before its model is loaded
    return source, list(Manifest(source.path, rows=source.rows))


def read_or_refused(path: Path) -> tuple[list[Request], ManifestError | None]:
    try:
        return read(path)[1], None
    except ManifestError as error:
        return [], error


def test_every_form_has_an_example() -> None:
    assert EXAMPLES.keys() == {form.words for form in FORMS}


def test_no_two_forms_have_a_suffix_in_common() -> None:
    suffixes = [suffix for form in FORMS for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() for suffix in suffixes)


def test_the_help_text_and_the_page_name_it(form: InputForm, repository: Path) -> None:
    assert form.words in words()
    page = (repository / "docs/reference/inputs.md").read_text(encoding="utf-8")
    assert form.suffixes[0] in page


def test_each_record_is_read_rightly(form: InputForm, tmp_path: Path) -> None:
    _, found = read(write(form, tmp_path))
    assert [request.error for request in found] == [None] * len(RECORDS)
    for request, record in zip(found, RECORDS, strict=True):
        assert request.input is not None
        assert (request.id, request.input.prompt) == (record["id"], record["prompt"])
        assert (request.metadata or {})["note"] == record["note"]
        (source,) = request.input.images or ()
        assert form.words in HOLDS_IMAGES or str(source) == str(tmp_path / "a.png")


def test_every_suffix_is_known_in_letters_of_any_size(form: InputForm, tmp_path: Path) -> None:
    for suffix in form.suffixes:
        path = tmp_path / f"other{suffix.upper()}"
        written(form, path).write_bytes(EXAMPLES[form.words](RECORDS))
        assert [request.id for request in read(path)[1]] == [record["id"] for record in RECORDS]


def test_its_rows_are_the_same_each_time_and_can_be_passed_over(form: InputForm, tmp_path: Path) -> None:
    write(form, tmp_path)
    (tmp_path / "folder").mkdir()
    path = write(form, tmp_path / "folder")
    # What is named is a folder, so rows are had of any form.
    rows = open_source([str(path if form.is_folder else path.parent)]).rows
    assert rows is not None
    assert rows.count() in (None, len(RECORDS))
    whole = list(rows.rows())
    assert list(rows.rows()) == whole
    for skipped in range(len(RECORDS) + 2):
        assert list(rows.rows_after(skipped)) == whole[skipped:]
    assert [row.number for row in rows.outline()] == [row.number for row in whole]
    if rows.kinds:
        assert [given.id for given in rows.given()] == [record["id"] for record in RECORDS]
        assert [given.values["note"] for given in rows.given()] == [record["note"] for record in RECORDS]


def test_two_files_are_one_manifest_whose_records_keep_their_names(form: InputForm, tmp_path: Path) -> None:
    paths = []
    for stem in ("b", "a"):
        records = [{**record, "id": f"{stem}-{record['id']}"} for record in RECORDS]
        paths.append(write(form, tmp_path, records, stem))
    _, found = read(*paths)
    assert [request.error for request in found] == [None] * 6
    assert [request.id for request in found] == [f"{stem}-r{n}" for stem in "ba" for n in range(3)]


def test_records_without_an_id_are_called_by_their_file_and_place(form: InputForm, tmp_path: Path) -> None:
    if form.words in NAMES_ITS_RECORDS:
        return
    unnamed = [{key: value for key, value in record.items() if key != "id"} for record in RECORDS]
    paths = [write(form, tmp_path, unnamed, stem) for stem in ("b", "a")]
    assert [request.id for request in read(*paths)[1]] == [f"{stem}:{n}" for stem in "ba" for n in (1, 2, 3)]


def test_packed_it_is_read_alike_or_refused(form: InputForm, tmp_path: Path) -> None:
    if form.is_folder:
        return
    path = tmp_path / f"m{form.suffixes[0]}.gz"
    path.write_bytes(gzip.compress(EXAMPLES[form.words](RECORDS)))
    found, refusal = read_or_refused(path)
    if refusal is not None:
        assert path.name in refusal.message
    else:
        assert [request.id for request in found] == [record["id"] for record in RECORDS]


def test_a_prompt_for_all_records_is_taken_or_refused(form: InputForm, tmp_path: Path) -> None:
    unasked = [{key: value for key, value in record.items() if key != "prompt"} for record in RECORDS]
    path = write(form, tmp_path, unasked)
    if not form.takes_prompt:
        with pytest.raises(UsageError, match="brings its own prompts"):
            read(path, prompt="Is it {note}?")
        return
    _, found = read(path, prompt="Is it {note}?")
    assert [request.input and request.input.prompt for request in found] == [
        f"Is it {record['note']}?" for record in RECORDS
    ]


@pytest.mark.parametrize("damage", ["cut short", "cut to a few bytes", "empty", "other bytes"])
def test_damaged_it_is_refused_by_name_or_the_bad_record_is_an_error(
    form: InputForm, tmp_path: Path, damage: str
) -> None:
    path = write(form, tmp_path)
    data = written(form, path).read_bytes()
    written(form, path).write_bytes(
        {
            "cut short": data[: len(data) * 4 // 5] if form.words not in PADDED else data[: len(data) // 3],
            "cut to a few bytes": data[:7],
            "empty": b"",
            "other bytes": bytes(range(256)) * 4,
        }[damage]
    )
    found, refusal = read_or_refused(path)
    assert refusal is None or path.name in str(refusal) or written(form, path).name in str(refusal)
    assert all(request.error is not None for request in found[2:])


def test_resumed_nothing_is_asked_again_but_what_is_new(form: InputForm, tmp_path: Path) -> None:
    path, output = write(form, tmp_path), tmp_path / "out.jsonl"

    def asked() -> list[str]:
        source, model = open_source([str(path)]), FakeModel()
        run(source.path or path, output, model, rows=source.rows, resume=output.exists())  # type: ignore[arg-type]
        return model.asked

    assert asked() == [record["prompt"] for record in RECORDS]
    assert asked() == []
    write(form, tmp_path, [*RECORDS[:2], {**RECORDS[2], "prompt": "Another?"}])
    assert asked() == ["Another?"]
