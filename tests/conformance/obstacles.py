"""Why a type is not run: for each that no tiny checkpoint stands for, what exactly is in the way."""

OBSTACLES: dict[str, str] = {
    "diffusion_gemma": "answers by refining blocks of tokens in its own `generate`, not token by token: there is no "
    "next token to batch",
    "evolla": "its processor takes proteins, not images",
    "instructblipvideo": "takes videos alone: its image argument is a list of frames",
    "mistral4": "the mapping names Mistral4ForCausalLM, which takes no images",
    "pi0": "answers with a robot's actions, not with text",
    "shieldgemma2": "a classifier: its forward gives probabilities of yes and no, and it generates nothing",
    "udop": "its processor wants words and their boxes beside the image",
}
