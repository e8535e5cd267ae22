"""Why a type is not run: for each that no tiny checkpoint stands for, what exactly is in the way."""

TIMM = "its vision tower is timm's, a package that no extra of this project brings yet; no tiny checkpoint without it"
AUDIO = (
    "its processor needs an audio feature extractor beside the image and video ones; no tiny checkpoint yet"
)

OBSTACLES: dict[str, str] = {
    "diffusion_gemma": "answers by refining blocks of tokens in its own `generate`, not token by token: there is "
    "no next token to batch",
    "dots3_note": AUDIO,
    "emu3": "its images become tokens of a VQ-VAE by a generator of its own; no tiny VQ-VAE built yet",
    "ernie4_5_vl_moe": "its video processor, without which the processor cannot be built, wants a font file that "
    "only a checkpoint on the hub brings",
    "evolla": "its processor takes proteins, not images",
    "fast_vlm": TIMM,
    "fuyu": "transformers 5.23's processor drops the first token of the image part, so that text and patches do "
    "not match in number",
    "gemma3n": TIMM,
    "inkling2": "new in 5.23: relative positions by attention-residual blocks; no tiny checkpoint yet",
    "inkling_mm_model": AUDIO,
    "instructblipvideo": "takes videos alone: its image argument is a list of frames",
    "minicpm_ocr": "its processor wants a tokenizer class with ten named special tokens and both an image and a "
    "video processor; no tiny checkpoint yet",
    "mistral4": "the mapping names Mistral4ForCausalLM, which takes no images",
    "muse_spark": AUDIO,
    "nemotron_h_omni": AUDIO,
    "perception_lm": TIMM,
    "pi0": "answers with a robot's actions, not with text",
    "pp_formulanet": "its tokenizer is made of formula markup and its decoder is fed by the image alone; no tiny "
    "checkpoint yet",
    "qwen2_5_omni_thinker": AUDIO,
    "qwen3_omni_moe_thinker": AUDIO,
    "shieldgemma2": "a classifier: its forward gives probabilities of yes and no, and it generates nothing",
    "udop": "its processor wants words and their boxes beside the image",
}
