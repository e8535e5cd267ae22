"""Small random-weight models with real processors, saved as any checkpoint: what the tests run instead of a
hub.

`build(name, folder)` writes one; `ARCHITECTURES` says which there are and what each needs. `reference` runs
one record through plain transformers.
"""

from functools import partial
from pathlib import Path

from tests.tiny import (
    captioners,
    early_fusion,
    ernie,
    florence,
    gemma,
    glm,
    granite,
    grids,
    idefics,
    inkling,
    internvl,
    janus,
    lfm,
    llava,
    minicpm,
    mistral,
    mllama,
    molmo,
    ocr,
    omni,
    qwen_vl,
    readers,
    timm_towers,
)
from tests.tiny.building import Builder, save
from transformers import Glm4vConfig, Glm4vMoeConfig, Glm46VConfig, GlmgaConfig, GlmOcrConfig

__all__ = ["ARCHITECTURES", "Builder", "build"]

TORCHVISION = ("torchvision",)
TIMM = ("torchvision", "timm")

ARCHITECTURES: dict[str, Builder] = {
    builder.name: builder
    for builder in (
        Builder("idefics3", partial(idefics.idefics3, tiles=False)),
        Builder("idefics3_tiles", partial(idefics.idefics3, tiles=True)),
        Builder("llava", llava.llava),
        Builder("llava_next", llava.llava_next),
        Builder("gemma3", gemma.gemma3),
        Builder("paligemma", gemma.paligemma, min_images=1, chat=False),
        Builder("mistral3", mistral.mistral3, needs=TORCHVISION),
        Builder("florence2", florence.florence2, min_images=1, max_images=1, chat=False),
        Builder("internvl", internvl.internvl, needs=TORCHVISION),
        Builder("qwen2_vl", qwen_vl.qwen2_vl, needs=TORCHVISION),
        Builder("qwen2_5_vl", qwen_vl.qwen2_5_vl, needs=TORCHVISION),
        Builder("qwen3_vl", qwen_vl.qwen3_vl, needs=TORCHVISION),
        Builder("llava_onevision", llava.llava_onevision, needs=TORCHVISION),
        Builder("smolvlm", idefics.smolvlm, needs=("torchvision", "num2words")),
        Builder("vipllava", llava.vipllava),
        Builder("idefics2", idefics.idefics2),
        Builder("blip", captioners.blip, min_images=1, max_images=1, chat=False),
        Builder("blip-2", partial(captioners.blip2, "opt"), min_images=1, max_images=1, chat=False),
        Builder("blip-2_t5", partial(captioners.blip2, "t5"), min_images=1, max_images=1, chat=False),
        Builder("instructblip", captioners.instructblip, min_images=1, max_images=1, chat=False),
        Builder("git", captioners.git, max_images=1, chat=False),
        Builder("pix2struct", readers.pix2struct, min_images=1, max_images=1, chat=False),
        Builder(
            "pp_formulanet",
            readers.pp_formulanet,
            needs=TORCHVISION,
            min_images=1,
            max_images=1,
            chat=False,
            prompts=False,
        ),
        Builder("vision-encoder-decoder", readers.trocr, min_images=1, max_images=1, chat=False),
        Builder("vision-encoder-decoder_donut", readers.donut, min_images=1, max_images=1, chat=False),
        Builder("got_ocr2", internvl.got_ocr2, min_images=1, chat=False),
        Builder("mllama", mllama.mllama),
        Builder("aya_vision", internvl.aya_vision),
        Builder("gemma4", gemma.gemma4, needs=TORCHVISION),
        Builder("glm4v", partial(glm.glm, "Glm4v", Glm4vConfig), needs=TORCHVISION),
        Builder(
            "glm46v", partial(glm.glm, "Glm46V", Glm46VConfig, model_type="glm4v_text"), needs=TORCHVISION
        ),
        Builder("glm4v_moe", partial(glm.glm, "Glm4v", Glm4vMoeConfig, **glm.EXPERTS), needs=TORCHVISION),
        Builder("glm_ocr", partial(glm.glm, "Glm46V", GlmOcrConfig), needs=TORCHVISION),
        Builder("exaone4_5", qwen_vl.exaone4_5, needs=TORCHVISION),
        Builder("video_llama_3", qwen_vl.video_llama_3, needs=TORCHVISION),
        Builder("qianfan_ocr", internvl.qianfan_ocr),
        Builder("cohere2_vision", internvl.cohere2_vision, needs=TORCHVISION),
        Builder("ovis2", internvl.ovis2),
        Builder("lighton_ocr", mistral.lighton_ocr, needs=TORCHVISION),
        Builder("llava_next_video", llava.llava_next_video, needs=TORCHVISION),
        Builder("paddleocr_vl", glm.paddleocr_vl),
        Builder("lfm2_vl", lfm.lfm2_vl, needs=TORCHVISION),
        Builder("qwen3_5", qwen_vl.qwen3_5, needs=TORCHVISION),
        Builder("qwen3_5_moe", partial(qwen_vl.qwen3_5, experts=True), needs=TORCHVISION),
        Builder("qwen3_vl_moe", qwen_vl.qwen3_vl_moe, needs=TORCHVISION),
        Builder("molmo2", molmo.molmo2, needs=TORCHVISION, since="5.20"),
        Builder("janus", janus.janus),
        Builder("deepseek_vl", janus.deepseek_vl),
        Builder("llama4", mllama.llama4, needs=TORCHVISION),
        Builder("granite4_vision", granite.granite4_vision, since="5.20"),
        Builder("granite_docling", granite.granite_docling, since="5.23"),
        Builder("hunyuan_vl", granite.hunyuan_vl, since="5.22"),
        Builder("deepseek_vl_hybrid", janus.deepseek_vl_hybrid),
        Builder(
            "glmga",
            partial(glm.glm, "Glm46V", GlmgaConfig, images="Glmga", model_type="glm4v_text"),
            needs=TORCHVISION,
        ),
        Builder("video_llava", llava.video_llava, needs=TORCHVISION),
        Builder("kosmos-2.5", captioners.kosmos2_5, min_images=1, max_images=1, chat=False),
        Builder("gemma4_unified", gemma.gemma4_unified, needs=TORCHVISION),
        Builder("hyperclovax_vision_v2", qwen_vl.hyperclovax_vision_v2, needs=TORCHVISION),
        Builder("kimi_k25", qwen_vl.kimi_k25, needs=TORCHVISION),
        Builder("minicpmv4_6", partial(minicpm.minicpm, "MiniCPMV4_6", "MiniCPMV4_6"), needs=TORCHVISION),
        Builder("minicpmv4_7", partial(minicpm.minicpm, "MiniCPMV4_7", "MiniCPMV4_6"), needs=TORCHVISION),
        Builder("minicpm_ocr", partial(minicpm.minicpm, "MiniCPMOcr", "MiniCPMOcr"), needs=TORCHVISION),
        Builder("inkling_mm_model", inkling.inkling, needs=("torchvision", "scipy")),
        Builder("inkling2", inkling.inkling2, needs=TORCHVISION, since="5.23"),
        Builder("qwen4_exp", qwen_vl.qwen4_exp, needs=TORCHVISION),
        Builder("mistral_large4", mistral.mistral_large4, needs=TORCHVISION, since="5.22"),
        Builder("lfm3_vl", lfm.lfm3_vl, needs=TORCHVISION, since="5.23"),
        Builder("t5gemma2", gemma.t5gemma2),
        Builder("chameleon", early_fusion.chameleon, chat=False),
        Builder("fuyu", early_fusion.fuyu, needs=TORCHVISION, max_images=1, chat=False),
        Builder("emu3", early_fusion.emu3),
        Builder("idefics", early_fusion.idefics, chat=False),
        Builder("aria", early_fusion.aria, since="5.20"),
        Builder("deepseek_ocr2", ocr.deepseek_ocr2, since="5.20"),
        Builder("unlimited_ocr", ocr.unlimited_ocr, needs=TORCHVISION, since="5.20"),
        Builder("pp_chart2table", ocr.pp_chart2table, min_images=1),
        Builder("step3p7", ocr.step3p7, needs=TORCHVISION),
        Builder("cosmos3_omni", qwen_vl.cosmos3_omni, needs=TORCHVISION),
        Builder("cohere_compass", grids.cohere_compass, needs=TORCHVISION),
        Builder("cosmos3_edge", grids.cosmos3_edge, needs=TORCHVISION),
        Builder("glm5_next", grids.glm5_next, needs=TORCHVISION),
        Builder("minimax_m3_vl", grids.minimax_m3_vl, needs=TORCHVISION),
        Builder("muse_glimmer", grids.muse_glimmer, needs=TORCHVISION),
        Builder("muse_spark", grids.muse_spark, needs=TORCHVISION, since="5.20"),
        Builder("ernie4_5_vl_moe", ernie.ernie4_5_vl_moe, needs=TORCHVISION),
        Builder("dots3_note", omni.dots3_note, needs=TORCHVISION, since="5.23"),
        Builder("nemotron_h_omni", omni.nemotron_h_omni, needs=TORCHVISION),
        Builder("qwen2_5_omni_thinker", omni.qwen2_5_omni_thinker, needs=TORCHVISION),
        Builder("qwen3_omni_moe_thinker", omni.qwen3_omni_moe_thinker, needs=TORCHVISION),
        Builder("fast_vlm", timm_towers.fast_vlm, needs=TIMM),
        Builder("gemma3n", timm_towers.gemma3n, needs=TIMM),
        Builder("perception_lm", timm_towers.perception_lm, needs=TIMM, max_images=1),
        Builder("kosmos-2", captioners.kosmos2, min_images=1, max_images=1, chat=False),
    )
}


def build(name: str, folder: Path, seed: int = 0) -> Path:
    """Build the architecture `name` in `folder`, the same for the same seed, and return the folder."""
    return save(ARCHITECTURES[name].parts(), folder, seed)
