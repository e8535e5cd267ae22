"""Serve the embedded model with llama.cpp's server, as the package index has it built.

    python scripts/llama_server.py --port 8080

The server is in the package xllamacpp. The model is written in its format, GGUF, with the package gguf, in less
than a second: `model.gguf` is the language model, `mmproj.gguf` its vision tower, and the layer that joins them.
The names and the meaning of their keys are llama.cpp's (`gguf.constants`). Needs safetensors too, and no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import tempfile
from pathlib import Path
from typing import Any

import gguf
import xllamacpp
from safetensors.numpy import load_file

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "src" / "pixano_vlm" / "shapes" / "model"


def read(name: str) -> dict[str, Any]:
    """One of the checkpoint's JSON files."""
    found: dict[str, Any] = json.loads((MODEL / name).read_text(encoding="utf-8"))
    return found


def write_language_model(path: Path, config: dict[str, Any], tensors: dict[str, Any]) -> None:
    """The weights of `text_config`, the tokenizer and the chat template."""
    text = config["text_config"]
    heads = text["num_attention_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("shapes")
    writer.add_vocab_size(text["vocab_size"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_rope_dimension_count(text["head_dim"])
    writer.add_rope_freq_base(text["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    write_tokenizer(writer, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, text["num_hidden_layers"])
    for name, tensor in tensors.items():
        if name.startswith(("model.text_model.", "lm_head.")):
            is_turned = name.endswith(("q_proj.weight", "k_proj.weight"))
            known = name.replace("model.text_model.", "model.")
            writer.add_tensor(
                names.get_name(known, (".weight",)), side_by_side(tensor, heads) if is_turned else tensor
            )
    finish(writer)


def side_by_side(weight: Any, heads: int) -> Any:
    """Reorder rows: llama.cpp turns neighbouring values by one angle, transformers those half a head apart."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_tokenizer(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """The tokenizer splits words as GPT-2's does, but for "bbox_2d" and "point_2d" in prompts."""
    tokenizer = read("tokenizer.json")
    special = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    vocabulary |= tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    types = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    # The server puts a token of two line ends before an image, of which this model has none and which it reads
    # over: it is the one that pads.
    tokens[config["_pad_token_id"]] = chr(0x10A) * 2
    types[config["_pad_token_id"]] = gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    )
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["_pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((MODEL / "chat_template.jinja").read_text(encoding="utf-8"))


def write_vision_tower(path: Path, config: dict[str, Any], tensors: dict[str, Any]) -> None:
    """The weights of `vision_config` and the connector."""
    vision, processor = config["vision_config"], read("processor_config.json")["image_processor"]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.IDEFICS3)
    writer.add_vision_projection_dim(config["text_config"]["hidden_size"])
    writer.add_vision_projector_scale_factor(config["scale_factor"])
    writer.add_vision_image_size(vision["image_size"])
    writer.add_vision_preproc_image_size(processor["size"]["longest_edge"])
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["num_hidden_layers"])
    writer.add_vision_head_count(vision["num_attention_heads"])
    writer.add_vision_attention_layernorm_eps(vision["layer_norm_eps"])
    writer.add_vision_use_gelu(True)
    writer.add_vision_image_mean(processor["image_mean"])
    writer.add_vision_image_std(processor["image_std"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["num_hidden_layers"])
    for name, tensor in tensors.items():
        if name.startswith(("model.vision_model.", "model.connector.")):
            known = name.replace("model.vision_model.", "vision_tower.vision_model.")
            writer.add_tensor(names.get_name(known, (".weight", ".bias")), tensor)
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write what was added, and close the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_model(folder: Path) -> None:
    """Write `model.gguf` and `mmproj.gguf`."""
    config, tensors = read("config.json"), load_file(MODEL / "model.safetensors")
    write_language_model(folder / "model.gguf", config, tensors)
    write_vision_tower(folder / "mmproj.gguf", config, tensors)


def start(folder: Path, port: int) -> xllamacpp.Server:
    """Load the model of a folder, which is not needed afterwards, and serve it on loopback."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(folder / "model.gguf")
    parameters.mmproj.path = str(folder / "mmproj.gguf")
    parameters.model_alias = {"shapes"}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = 4
    parameters.n_ctx = 2048
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = False
    return xllamacpp.Server(parameters)


def main() -> None:
    """Read the port from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shapes-") as folder:
        write_model(Path(folder))
        server = start(Path(folder), arguments.port)
    print(f"listening on {server.listening_address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    main()
