#!/usr/bin/env python3
"""Compares tests/unit/checkpoint/config_keys_test.cc with the keys that an installed transformers reads.

    config_keys.py [SITE_PACKAGES]      exit 1 and one line per key that the test does not list

Reads sources only: neither transformers nor torch is imported. A key counts as read where the family's
configuration declares it, or where its modelling code, the masks, the cache or the loader asks a `config` for it.
"""

import pathlib
import re
import site
import sys

FAMILIES = {"llama": "llama", "mistral": "mistral", "opt": "opt", "qwen2": "qwen2", "qwen3": "qwen3",
            "gemma2": "gemma2", "gemma3": "gemma3_text", "phi3": "phi3"}
SHARED = ["masking_utils.py", "cache_utils.py", "modeling_rope_utils.py", "modeling_utils.py", "configuration_utils.py"]
# Methods and attributes of the class that are no keys, and Gemma 3's keys of its multimodal part.
NO_KEYS = set("""__class__ base_model_pp_plan base_model_tp_plan create_compatible_mapping disable_mmap
    disk_offload_folder extra_files get get_text_config hf_quantizer is_quantized json num_key_value_groups
    pretrained_model_name_or_path quant_method sanitize_kernel_mapping save_pretrained sharded_metadata
    standardize_rope_params sub_config_name sub_configs to_dict validate_architecture validate_rope weight_mapping
    weights_only mtp_mlp_layer_types mtp_per_layer_config rope_type Example vision_config
    mm_tokens_per_image boi_token_index eoi_token_index image_token_index image_token_id""".split())


def keys_of(text):
    asked = set(re.findall(r"\bconfig\.(\w+)", text))
    return asked | set(re.findall(r"(?:getattr|hasattr)\((?:self\.)?(?:\w+_)?config, *\"(\w+)\"", text))


def declared(text):
    """Fields of a configuration's class, and what its constructor takes besides."""
    fields = set(re.findall(r"^    (\w+): [^=\n]*=", text, re.MULTILINE))
    return fields | set(re.findall(r"kwargs\.(?:pop|get)\(\"(\w+)\"", text))


def main():
    places = sys.argv[1:] or site.getsitepackages()
    root = next((p for p in (pathlib.Path(place) / "transformers" for place in places) if p.is_dir()), None)
    if root is None:
        sys.exit("no transformers here: config_keys.py SITE_PACKAGES")
    test = pathlib.Path(__file__).parents[1] / "unit/checkpoint/config_keys_test.cc"
    listed = set(re.findall(r'\{"(\w+)", k(?:Computed|Refused|None)', test.read_text()))
    shared = set().union(*(keys_of((root / name).read_text()) for name in SHARED))
    missing = sorted(shared - listed - NO_KEYS)
    for key in missing:
        print("all families: " + key)
    for folder, family in FAMILIES.items():
        configuration = (root / "models" / folder / f"configuration_{folder}.py").read_text()
        modeling = (root / "models" / folder / f"modeling_{folder}.py").read_text()
        new = declared(configuration) | keys_of(configuration) | keys_of(modeling)
        for key in sorted(new - shared - listed - NO_KEYS):
            missing.append(key)
            print(f"{family}: {key}")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
