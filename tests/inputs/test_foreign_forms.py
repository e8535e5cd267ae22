"""The forms that other tools give their data: each read rightly, or refused whole with the conversion.

Every entry is written from the documentation of the tool that it names. `Read` says what the first record has to be;
`Refused` what is said before anything starts.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.dialects.known import DIALECT_KEYS
from pixano_vlm.inputs.manifest import Manifest, Request
from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.open import open_source
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.inputs.template import Template
from pixano_vlm.models import GenerationSettings
from pixano_vlm.prompts.messages import image_sources


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


B64 = base64.b64encode(png(7)).decode()
DATA = f"data:image/png;base64,{B64}"
OCTETS = f"data:application/octet-stream;base64,{B64}"


@dataclass(frozen=True)
class Read:
    """What the first record is: who says what, and which images in which places."""

    turns: list[tuple[str, str]]
    """Role and text; `[image]` is the place of an image."""
    images: list[str] = field(default_factory=list)
    """The images in the order of their places: names in the folder, or whole data URLs."""
    reference: str | None = None
    id: str = "1"
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    """Some of it."""
    count: int = 1


@dataclass(frozen=True)
class Refused:
    """What is said before anything starts."""

    what: str
    conversion: str


@dataclass(frozen=True)
class Form:
    """One form: what is in the file, and what comes of it."""

    content: Any
    """A list: lines of JSONL, or a list of JSON in a file that ends with .json. Text and bytes: as they are. A
    function: makes the files in a folder and returns what is named."""
    outcome: Read | Refused
    suffix: str = ".jsonl"
    prompt: str | None = None
    naming: Naming = field(default_factory=Naming)


def user(*parts: Any) -> dict[str, Any]:
    return {
        "role": "user",
        "content": parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts),
    }


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def parquet(columns: dict[str, Any], name: str = "data.parquet") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), folder / name)
        return folder / name

    return make


def saved_to_disk(columns: dict[str, Any]) -> Callable[[Path], Path]:
    """As `datasets.Dataset.save_to_disk` does it, with what a later `map` leaves in the folder."""

    def make(folder: Path) -> Path:
        pa = pytest.importorskip("pyarrow")
        saved = folder / "saved"
        saved.mkdir()
        table = pa.table(columns)
        for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
            with pa.OSFile(str(saved / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        (saved / "state.json").write_text("{}")
        (saved / "dataset_info.json").write_text("{}")
        return saved

    return make


def tar(members: dict[str, bytes | str]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with tarfile.open(folder / "shard-000.tar", "w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                held = data.encode() if isinstance(data, str) else data
                info.size = len(held)
                archive.addfile(info, io.BytesIO(held))
        return folder / "shard-000.tar"

    return make


def files(named: str, **contents: bytes | str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name, data in contents.items():
            path = folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return folder / named

    return make


WHAT = "What is this?"
HF_IMAGE = {"bytes": png(7), "path": "a.png"}
COCO = {
    "info": {}, "licenses": [], "images": [{"id": 9, "file_name": "000009.jpg", "width": 8, "height": 8}],
    "annotations": [{"id": 1, "image_id": 9, "caption": "a cat"}],
}  # fmt: skip

FORMS: dict[str, Form] = {
    # --- training data ---
    "LLaVA-Instruct": Form(
        [{"id": "0001", "image": "a.png", "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}],
        Read([("user", "[image]\nWhat is this?")], ["a.png"], "A cat.", "0001"), suffix=".json"),
    "LLaVA-Instruct, several turns": Form(
        [{"id": "1", "image": "a.png", "conversations": [
            {"from": "human", "value": "What is this?\n<image>"}, {"from": "gpt", "value": "A cat."},
            {"from": "human", "value": "Its colour?"}, {"from": "gpt", "value": "Red."}]}],
        Read([("user", "What is this?\n[image]"), ("assistant", "A cat."), ("user", "Its colour?")],
             ["a.png"], "Red."),
        suffix=".json"),
    "LLaVA-NeXT-Interleave": Form(
        [{"id": 3, "image": ["a.png", "b.png"], "conversations": [
            {"from": "human", "value": "Compare <image> and <image>."}, {"from": "gpt", "value": "Equal."}]}],
        Read([("user", "Compare [image] and [image].")], ["a.png", "b.png"], "Equal.", "3"), suffix=".json"),
    "LLaVA's questions": Form(
        [{"question_id": 5, "image": "a.png", "text": WHAT, "category": "x"}],
        Read([("user", WHAT)], ["a.png"], id="5", metadata={"category": "x"}),
        naming=Naming(("image",), "text", "question_id")),
    "ShareGPT": Form(
        [{"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": WHAT},
                            {"from": "gpt", "value": "A cat."}], "images": ["a.png"]}],
        Read([("system", "Be brief."), ("user", "[image]What is this?")], ["a.png"], "A cat.")),
    "LLaMA-Factory, mllm_demo": Form(
        [{"messages": [{"content": "<image>Who are they?", "role": "user"}, {"content": "Kane.", "role": "assistant"},
                       {"content": "Doing what?", "role": "user"}, {"content": "Celebrating.", "role": "assistant"}],
          "images": ["a.png"]}],
        Read([("user", "[image]Who are they?"), ("assistant", "Kane."), ("user", "Doing what?")], ["a.png"],
             "Celebrating."), suffix=".json"),
    "LLaMA-Factory, alpaca": Form(
        [{"instruction": "Describe it.", "input": "Briefly.", "output": "A cat.", "system": "Be kind.",
          "history": [["Hello", "Hi"]], "images": ["a.png"]}],
        Read([("system", "Be kind."), ("user", "[image]Hello"), ("assistant", "Hi"),
              ("user", "Describe it.\nBriefly.")], ["a.png"], "A cat."), suffix=".json"),
    "TRL, conversational": Form(
        [{"messages": [user(WHAT), assistant("A cat.")], "images": ["a.png"]}],
        Read([("user", "[image]What is this?")], ["a.png"], "A cat.")),
    "TRL, prompt only": Form(
        [{"prompt": [user(WHAT)], "images": ["a.png"]}], Read([("user", "[image]What is this?")], ["a.png"])),
    "TRL, prompt and completion": Form(
        [{"prompt": [user(WHAT)], "completion": [assistant("A cat.")], "image": "a.png"}],
        Read([("user", "[image]What is this?")], ["a.png"], "A cat.")),
    "TRL, preference": Form(
        [{"prompt": [user({"type": "image"}, text(WHAT))], "chosen": [assistant("A cat.")],
          "rejected": [assistant("A dog.")], "images": ["a.png"]}],
        Read([("user", "[image]What is this?")], ["a.png"], metadata={"chosen": [assistant("A cat.")]})),
    "TRL, preference without a prompt": Form(
        [{"chosen": [user(WHAT), assistant("A cat.")], "rejected": [user(WHAT), assistant("A dog.")], "images": []}],
        Refused("there is no prompt apart from them", "jq -c")),
    "TRL, in Parquet with images": Form(
        parquet({"prompt": [[user(WHAT)]], "completion": [[assistant("A cat.")]], "images": [[HF_IMAGE]]}),
        Read([("user", "[image]What is this?")], [OCTETS], "A cat.")),
    "ms-swift": Form(
        [{"messages": [user("<image>What is this?"), assistant("A cat.")], "images": ["a.png"]}],
        Read([("user", "[image]What is this?")], ["a.png"], "A cat.")),
    "ms-swift, query and response": Form(
        [{"query": "<image>Its colour?", "response": "Red.", "images": ["a.png"], "history": []}],
        Read([("user", "[image]Its colour?")], ["a.png"], "Red.")),
    "ms-swift, pairs": Form(
        [{"system": "Be brief.", "conversation": [{"human": WHAT, "assistant": "A cat."},
                                                  {"human": "Sure?", "assistant": "Yes."}]}],
        Read([("system", "Be brief."), ("user", WHAT), ("assistant", "A cat."), ("user", "Sure?")],
             reference="Yes.")),
    "ms-swift, images as bytes": Form(
        parquet({"messages": [[user("<image>What is this?"), assistant("A cat.")]], "images": [[HF_IMAGE]]}),
        Read([("user", "[image]What is this?")], [OCTETS], "A cat.")),
    "InternVL": Form(
        [{"id": 0, "image": "a.png", "width": 8, "height": 8, "conversations": [
            {"from": "human", "value": "<image>\nRead it."}, {"from": "gpt", "value": "42"}]}],
        Read([("user", "[image]\nRead it.")], ["a.png"], "42", "0", metadata={"width": 8})),
    "Qwen-VL, paths in the text": Form(
        [{"id": "q", "conversations": [{"from": "user", "value": "Picture 1: <img>a.png</img>\nWhat is this?"},
                                       {"from": "assistant", "value": "A cat."}]}],
        Read([("user", "[image]What is this?")], ["a.png"], "A cat.", "q"), suffix=".json"),
    "Qwen2.5-VL's fine-tuning": Form(
        [{"image": "a.png", "conversations": [{"from": "human", "value": "<image>\nRead it."},
                                              {"from": "gpt", "value": "42"}]}],
        Read([("user", "[image]\nRead it.")], ["a.png"], "42"), suffix=".json"),
    "MiniCPM-V": Form(
        [{"id": "0", "image": {"<image_00>": "a.png", "<image_01>": "b.png"}, "conversations": [
            {"role": "user", "content": "<image_00>\n<image_01>\nCompare."},
            {"role": "assistant", "content": "Equal."}]}],
        Read([("user", "[image]\n[image]\nCompare.")], ["a.png", "b.png"], "Equal.", "0"), suffix=".json"),
    "DeepSeek-VL": Form(
        [{"conversations": [{"role": "<|User|>", "content": "<image_placeholder>Describe it.", "images": ["a.png"]},
                            {"role": "<|Assistant|>", "content": ""}]}],
        Read([("user", "[image]Describe it.")], ["a.png"])),
    "torchtune": Form(
        [{"dialogue": [{"from": "human", "value": "<image>What time is it?"}, {"from": "gpt", "value": "10:00"}],
          "image_path": "a.png"}],
        Read([("user", "[image]What time is it?")], ["a.png"], "10:00"), suffix=".json"),
    "the Cauldron and FineVision": Form(
        parquet({"images": [[HF_IMAGE]], "texts": [[{"user": WHAT, "assistant": "A cat.", "source": "x"},
                                                    {"user": "Sure?", "assistant": "Yes.", "source": "x"}]]}),
        Read([("user", "[image]What is this?"), ("assistant", "A cat."), ("user", "Sure?")], [OCTETS], "Yes.")),
    "OpenAI's fine-tuning": Form(
        [{"messages": [{"role": "system", "content": "Be brief."}, user(WHAT),
                       user({"type": "image_url", "image_url": {"url": DATA}}), assistant("A cat.")]}],
        Read([("system", "Be brief."), ("user", WHAT), ("user", "[image]")], [DATA], "A cat.")),
    "Axolotl": Form(
        [{"messages": [user(text(WHAT), {"type": "image", "path": "a.png"}, {"type": "image", "base64": B64}),
                       {"role": "assistant", "content": [text("A cat.")]}]}],
        Read([("user", "What is this?[image][image]")], ["a.png", OCTETS], "A cat.")),
    "Unsloth, in Parquet": Form(
        parquet({"messages": [[{"role": "user", "content": [{"type": "text", "text": WHAT, "image": None},
                                                            {"type": "image", "text": None, "image": HF_IMAGE}]},
                               {"role": "assistant",
                                "content": [{"type": "text", "text": "A cat.", "image": None}]}]]}),
        Read([("user", "What is this?[image]")], [OCTETS], "A cat.")),
    "GLM's fine-tuning": Form(
        [{"messages": [{"role": "user", "image": "a.png", "content": WHAT}, assistant("A cat.")]}],
        Read([("user", "[image]What is this?")], ["a.png"], "A cat.")),
    "messages as JSON text in a table": Form(
        parquet({"messages": [json.dumps([user(WHAT), assistant("A cat.")])], "image": ["a.png"]}),
        Read([("user", "[image]What is this?")], ["a.png"], "A cat.")),
    "prompts as JSON text in a CSV": Form(
        'id,prompt\nx,"[{""role"": ""user"", ""content"": ""What is this?""}]"\n', Read([("user", WHAT)], id="x"),
        suffix=".csv"),
    "LLaVA-Video": Form(
        [{"id": "v", "video": "a.mp4", "conversations": [{"from": "human", "value": "<video>\nWho?"},
                                                         {"from": "gpt", "value": "Nobody."}]}],
        Read([("user", "[video]\nWho?")], [], "Nobody.", "v")),
    "training data with sound": Form(
        [{"messages": [user("<audio>What is said?"), assistant("x")], "audios": ["a.wav"]}],
        Read([("error", "audios asks for sound")])),
    # --- requests to services ---
    "OpenAI Batch": Form(
        [{"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "gpt-5-mini", "max_tokens": 9, "messages": [
                user(text(WHAT), {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}})]}}],
        Read([("user", "What is this?[image]")], [DATA], id="r1", settings={"max_new_tokens": 9})),
    "Azure Batch": Form(
        [{"custom_id": "r1", "method": "POST", "url": "/chat/completions", "body": {
            "model": "gpt-4o-deployment", "messages": [user(WHAT)], "max_tokens": 9, "max_completion_tokens": 9,
            "seed": -1, "chat_template_kwargs": {}}}],
        Read([("user", WHAT)], id="r1", settings={"max_new_tokens": 9, "seed": None})),
    "OpenAI Batch, Responses": Form(
        [{"custom_id": "r1", "method": "POST", "url": "/v1/responses", "body": {
            "model": "gpt-5", "instructions": "Be brief.", "max_output_tokens": 9, "input": [
                user({"type": "input_text", "text": WHAT}, {"type": "input_image", "image_url": DATA})]}}],
        Read([("system", "Be brief."), ("user", "What is this?[image]")], [DATA], id="r1",
             settings={"max_new_tokens": 9})),
    "OpenAI Responses": Form(
        [{"model": "gpt-5", "input": [user({"type": "input_text", "text": WHAT},
                                           {"type": "input_image", "image_url": "a.png", "detail": "auto"})]}],
        Read([("user", "What is this?[image]")], ["a.png"])),
    "OpenAI Evals": Form(
        [{"input": [{"role": "system", "content": "Be brief."}, user(WHAT)], "ideal": "A cat."}],
        Read([("system", "Be brief."), ("user", WHAT)], metadata={"ideal": "A cat."})),
    "Anthropic Message Batches": Form(
        [{"custom_id": "r1", "params": {"model": "claude", "max_tokens": 9, "system": "Be brief.", "messages": [
            user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
                 {"type": "image", "source": {"type": "url", "url": "https://example.org/b.png"}}, text(WHAT))]}}],
        Read([("system", "Be brief."), ("user", "[image][image]What is this?")], [DATA, "https://example.org/b.png"],
             id="r1", settings={"max_new_tokens": 9})),
    "Amazon Bedrock batch": Form(
        [{"recordId": "r1", "modelInput": {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [
            user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
                 text(WHAT))]}}],
        Read([("user", "[image]What is this?")], [DATA], id="r1", settings={"max_new_tokens": 9})),
    "Gemini batch": Form(
        [{"key": "r1", "request": {"contents": [{"role": "user", "parts": [
            {"text": WHAT}, {"inline_data": {"mime_type": "image/png", "data": B64}}]}],
            "generation_config": {"temperature": 0.5, "maxOutputTokens": 9}}}],
        Read([("user", "What is this?[image]")], [DATA], id="r1",
             settings={"max_new_tokens": 9, "temperature": 0.5})),
    "Ollama, chat": Form(
        [{"model": "llava", "messages": [{"role": "user", "content": WHAT, "images": [B64]}], "stream": False,
          "options": {"temperature": 0.5, "num_predict": 9, "num_ctx": 4096}}],
        Read([("user", "[image]What is this?")], [DATA], settings={"temperature": 0.5, "max_new_tokens": 9})),
    "Ollama, generate": Form(
        [{"model": "llava", "prompt": WHAT, "images": [B64], "stream": False, "system": "Be brief."}],
        Read([("system", "Be brief."), ("user", "[image]What is this?")], [DATA])),
    "Ollama's image inside our own messages": Form(
        [{"prompt": [{"role": "user", "content": WHAT, "images": ["a.png"]}]}],
        Read([("user", "[image]What is this?")], ["a.png"])),
    "a file by its id at a service": Form(
        [{"prompt": [user({"type": "input_image", "file_id": "file-1"}, text(WHAT))]}],
        Read([("error", "by its file_id")])),
    # --- data sets and tables ---
    "VLMEvalKit's TSV": Form(
        f"index\timage\tquestion\tA\tB\tanswer\n7\t{B64}\tWhich?\tcat\tdog\tA\n",
        Read([("user", "Which? A: cat B: dog")], [DATA], id="7", metadata={"answer": "A"}), suffix=".tsv",
        prompt="{question} A: {A} B: {B}", naming=Naming(id="index")),
    "VLMEvalKit's TSV with several images": Form(
        f"index\timage\tquestion\n7\t\"['{B64}', '{B64}']\"\tWhich?\n",
        Read([("user", "Which?")], [DATA, DATA], id="7"), suffix=".tsv", naming=Naming((), "question", "index")),
    "VLMEvalKit's TSV as it is": Form(
        f"index\timage\tquestion\n7\t{B64}\tWhich?\n",
        Refused("there is no column 'prompt'", "--prompt-column question"), suffix=".tsv"),
    "Hugging Face, VQA": Form(
        parquet({"question_id": [5.0], "question": [WHAT], "image": [HF_IMAGE], "answers": [["cat", "a cat"]]}),
        Read([("user", WHAT)], [OCTETS], id="5", metadata={"answers": ["cat", "a cat"], "image.path": "a.png"}),
        naming=Naming((), "question", "question_id")),
    "Hugging Face, VQA as it is": Form(
        parquet({"question": [WHAT], "image": [HF_IMAGE]}),
        Refused("there is no column 'prompt'", "--prompt-column question")),
    "MMMU": Form(
        parquet({"id": ["m1"], "question": ["<image 1> or <image 2>?"], "image_1": [HF_IMAGE],
                 "image_2": [HF_IMAGE]}),
        Refused("'image_1', 'image_2' may all hold images", "--image-column image_1"), prompt="{question}"),
    "MMMU, said which": Form(
        parquet({"id": ["m1"], "question": ["Which?"], "image_1": [HF_IMAGE], "image_2": [HF_IMAGE]}),
        Read([("user", "Which?")], [OCTETS, OCTETS], id="m1"), prompt="{question}",
        naming=Naming(("image_1", "image_2"))),
    "LAION's metadata": Form(
        parquet({"URL": ["https://example.org/a.jpg"], "TEXT": ["a cat"]}),
        Refused("no column is known to hold images", "--image-column NAME"), prompt="Describe it."),
    "LAION's metadata, said which": Form(
        parquet({"URL": ["https://example.org/a.jpg"], "TEXT": ["a cat"]}),
        Read([("user", "Is this a cat?")], ["https://example.org/a.jpg"]), prompt="Is this {TEXT}?",
        naming=Naming(("URL",))),
    "Flickr30k's captions": Form(
        "image_name|comment_number|comment\na.png|0|Two men\n", Read([("user", "Is it so: Two men?")], ["a.png"]),
        suffix=".csv", prompt="Is it so: {comment}?", naming=Naming(("image_name",))),
    "img2dataset's list": Form(
        "url,caption\nhttps://example.org/a.jpg,a cat\n", Read([("user", "?")], ["https://example.org/a.jpg"]),
        suffix=".csv", prompt="?", naming=Naming(("url",))),
    "a table of pandas with its index": Form(
        ",image,prompt\n0,a.png,What is this?\n", Read([("user", WHAT)], ["a.png"], metadata={"index": "0"}),
        suffix=".csv"),
    "Hugging Face, saved to disk": Form(
        saved_to_disk({"question": [WHAT, "Why?"], "image": [HF_IMAGE, HF_IMAGE]}),
        Read([("user", WHAT)], [OCTETS], id="data-00000-of-00001:1", count=2), naming=Naming(prompt="question")),
    "Hugging Face, an Arrow file that is none": Form(
        files("m.arrow", **{"m_dot_arrow": b"ARROW1\0\0"}),
        Refused("cannot be read as an Arrow file", "Feather version 2")),
    # --- files that are one object, and other kinds of file ---
    "COCO captions": Form(COCO, Refused("is in COCO's format", "jq -c '.images[]"), suffix=".json"),
    "Roboflow's COCO": Form(
        {"categories": [], **COCO}, Refused("is in COCO's format", ".file_name"), suffix=".json"),
    "Karpathy's split": Form(
        {"images": [{"filepath": "val", "filename": "a.jpg", "sentences": [], "imgid": 0}], "dataset": "coco"},
        Refused("is in Karpathy's format", "jq -c '.images[]"), suffix=".json"),
    "VQA v2": Form(
        {"questions": [{"image_id": 1, "question": WHAT, "question_id": 11}], "task_type": "x"},
        Refused("is in the format of VQA", "prompt: .question"), suffix=".json"),
    "DocVQA and TextVQA": Form(
        {"dataset_name": "x", "data": [{"questionId": 1, "question": WHAT, "image": "a.png"}]},
        Refused("its records under 'data'", ".data[] | {prompt: .question, images: [.image]"), suffix=".json"),
    "GQA": Form(
        {"201": {"question": WHAT, "imageId": "1"}, "202": {"question": WHAT, "imageId": "1"}},
        Refused("a record under each key", "to_entries[]"), suffix=".json"),
    "kohya's metadata": Form(
        {"a.png": {"caption": "a cat", "tags": "cat"}}, Refused("captions by image", "images: [.key]"),
        suffix=".json"),
    "VIA": Form(
        {"_via_settings": {}, "_via_img_metadata": {"a.png1": {"filename": "a.png", "regions": []}}},
        Refused("is a project of VIA", ".filename"), suffix=".json"),
    "LabelMe": Form(
        {"version": "5", "shapes": [], "imagePath": "a.png", "imageData": None},
        Refused("is an annotation of LabelMe", ".imagePath"), suffix=".json"),
    "Label Studio's export": Form(
        [{"id": 1, "data": {"image": "/data/upload/a.png"}, "annotations": [{"result": []}]}],
        Refused("is a task of Label Studio", "jq -c"), suffix=".json"),
    "Label Studio's tasks": Form(
        [{"data": {"image": "a.png"}}], Refused("is a task of Label Studio", "jq -c"), suffix=".jsonl"),
    "Label Studio's short export": Form(
        [{"image": "a.png", "id": 1, "label": "cat"}], Refused("unknown key 'image'", "Did you mean 'images'"),
        suffix=".json"),
    "an indented list": Form(
        json.dumps([{"prompt": WHAT}, {"prompt": "b"}], indent=2), Read([("user", WHAT)], count=2)),
    "a list with a record per line": Form(
        '[\n{"prompt": "What is this?"},\n{"prompt": "b"},\n{"prompt": "c"}\n]\n', Read([("user", WHAT)], count=3)),
    "objects one after another, indented": Form(
        json.dumps({"prompt": WHAT}, indent=2) + "\n" + json.dumps({"prompt": "b"}, indent=2),
        Read([("user", WHAT)], count=2)),
    "an Excel workbook": Form(
        b"PK\x03\x04", Refused("is an Excel workbook", "Save the sheet as CSV"), suffix=".xlsx"),
    "a pickle": Form(b"\x80\x04", Refused("is a pickle", "Write Parquet or JSONL"), suffix=".pkl"),
    "TFRecord": Form(b"\0" * 16, Refused("is a TFRecord file", "WebDataset"), suffix=".tfrecord"),
    "Pascal VOC": Form("<annotation/>", Refused("is an XML file", "Write JSONL"), suffix=".xml"),
    "a list of paths": Form("a.png\nb.png\n", Refused("is text", "$(cat m.txt) --prompt"), suffix=".txt"),
    # --- folders and archives ---
    "imagefolder with JSONL": Form(
        files("d", d__a_dot_png=png(1), d__metadata_dot_jsonl='{"file_name": "a.png", "text": "a cat"}\n'),
        Read([("user", "Is it a cat?")], ["d/a.png"], id="a.png", metadata={"text": "a cat"}),
        prompt="Is it {text}?"),
    "imagefolder with CSV": Form(
        files("d", d__a_dot_png=png(1), d__metadata_dot_csv="file_name,text\na.png,a cat\n"),
        Read([("user", "Is it a cat?")], ["d/a.png"], id="a.png", metadata={"text": "a cat"}),
        prompt="Is it {text}?"),
    "kohya's folder": Form(
        files("10_cat", **{"10_cat__a_dot_png": png(1), "10_cat__a_dot_txt": "a cat, red\n"}),
        Read([("user", "Improve: a cat, red")], ["10_cat/a.png"], id="a.png"), prompt="Improve: {txt}"),
    "WebDataset with .json": Form(
        tar({"s/000.png": png(7), "s/000.json": json.dumps({"prompt": WHAT, "width": 8})}),
        Read([("user", WHAT)], [OCTETS], id="s/000", metadata={"width": 8})),
    "WebDataset with .txt": Form(
        tar({"000.png": png(7), "000.txt": "a cat", "001.png": png(7), "001.txt": "a dog"}),
        Read([("user", "Is it a cat?")], [OCTETS], id="000", metadata={"txt": "a cat"}, count=2),
        prompt="Is it {txt}?"),
    "WebDataset with .cls": Form(
        tar({"000.cls": "3", "000.png": png(7)}),
        Read([("user", "Class?")], [OCTETS], id="000", metadata={"cls": "3"}),
        prompt="Class?"),
    "WebDataset of LLaVA": Form(
        tar({"000.png": png(7), "000.json": json.dumps({"conversations": [
            {"from": "human", "value": "<image>\nRead it."}, {"from": "gpt", "value": "42"}]})}),
        Read([("user", "[image]\nRead it.")], [OCTETS], "42", "000")),
    "WebDataset with sound": Form(
        tar({"000.wav": b"RIFF", "000.txt": "hello", "000.png": png(7)}),
        Read([("error", "000.wav is in it, which cannot be looked at")]), prompt="?"),
}  # fmt: skip


def write(form: Form, folder: Path) -> Path:
    content = form.content
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(png(1))
    if callable(content):
        return Path(content(folder))
    path = folder / f"m{form.suffix}"
    if isinstance(content, (str, bytes)):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    elif form.suffix == ".json":
        path.write_text(json.dumps(content, indent=1))
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in content))
    return path


def read(form: Form, folder: Path) -> list[Request]:
    template = None if form.prompt is None else Template(form.prompt)
    source = open_source([str(write(form, folder))], template, naming=form.naming)
    count = source.rows.count() if source.rows is not None else check_manifest_keys(source.path, form.naming)
    found = list(
        Manifest(
            source.path, rows=source.rows, settings=GenerationSettings(temperature=0), naming=source.naming
        )
    )
    assert count == len(found)
    return found


def said(prompt: Any, images: list[Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """A prompt as roles and texts, and its images in the order of their places."""
    if isinstance(prompt, str):
        return [("user", prompt)], [str(image) for image in images]
    turns, shown, waiting = [], [], iter(images)
    for message in prompt:
        pieces = []
        for part in [text(message["content"])] if isinstance(message["content"], str) else message["content"]:
            if part["type"] == "text":
                pieces.append(part["text"])
            elif part["type"] == "video":
                pieces.append("[video]")
            else:
                own = image_sources([{"role": "user", "content": [part]}])
                shown.append(str(own[0] if own else next(waiting)))
                pieces.append("[image]")
        turns.append((message["role"], "".join(pieces)))
    return turns, [*shown, *map(str, waiting)]


def without_type(image: str) -> str:
    """A data URL without what it says its data is: the bytes decide."""
    return f"data:{image.partition(';')[2]}" if image.startswith("data:") else image


@pytest.mark.parametrize("name", FORMS)
def test_a_foreign_form_is_read_rightly_or_refused_whole_with_the_conversion(
    name: str, tmp_path: Path
) -> None:
    form = FORMS[name]
    if isinstance(form.outcome, Refused):
        with pytest.raises(UsageError) as caught:
            read(form, tmp_path)
        assert form.outcome.what in caught.value.message
        assert form.outcome.conversion in (caught.value.hint or "")
        assert "\n" not in str(caught.value)
        return
    found, expected = read(form, tmp_path), form.outcome
    assert len(found) == expected.count
    first = found[0]
    if expected.turns[0][0] == "error":
        assert expected.turns[0][1] in str(first.error)
        return
    assert first.error is None, first.error
    assert first.input is not None
    turns, images = said(first.input.prompt, list(first.input.images or ()))
    assert turns == expected.turns
    whole = [
        image if "://" in image or image.startswith("data:") else str(tmp_path / image)
        for image in expected.images
    ]
    assert list(map(without_type, images)) == list(map(without_type, whole))
    assert (first.metadata or {}).get("reference") == expected.reference
    assert first.id == expected.id
    assert expected.metadata.items() <= (first.metadata or {}).items()
    for key, value in expected.settings.items():
        assert getattr(first.input, key) == value


def test_there_are_at_least_forty_forms() -> None:
    assert len(FORMS) >= 40


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3)
    | st.sampled_from(["", "a", "a.png", "user", "<image>", "[{'role': 1}]"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["role", "content", "from", "value", "type", "text", "image", "images", "url", "source",
                         "data", "user", "assistant", "contents", "parts", "messages", "video", "stop", "bytes"]),
        inner, max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip
KEYS = sorted({*DIALECT_KEYS, "prompt", "custom_id", "model", "images", "history", "completion", "rejected",
               "metadata", "videos", "response", "output", "instructions", "file_name"})  # fmt: skip


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), ANYTHING, min_size=1, max_size=4), min_size=1, max_size=4)
)
@settings(max_examples=400, deadline=None)
def test_whatever_stands_under_the_keys_of_a_form_is_a_record_or_its_error(
    lines: list[dict[str, Any]],
) -> None:
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    found = list(Manifest(None, stream=io.BytesIO(data)))
    assert len(found) == len(lines)
    assert all((request.input is None) != (request.error is None) for request in found)


@given(st.sampled_from(sorted(FORMS)), ANYTHING, st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_a_form_with_any_value_of_it_replaced_is_a_record_or_its_error(
    name: str, value: Any, random: Any
) -> None:
    content = FORMS[name].content
    if not isinstance(content, list):
        return
    line = json.loads(json.dumps(content[0]))
    place: Any = line
    while True:
        key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or random.random() < 0.3:
            place[key] = value
            break
        place = inner
    (request,) = Manifest(None, stream=io.BytesIO(json.dumps(line).encode()))
    assert (request.input is None) != (request.error is None)
