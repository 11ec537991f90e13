"""Per-user adapters for a run whose policy is a server: python examples/paper/adapters.py RUN.toml OUT [BASE].

Trains one LoRA adapter for each user on the earlier part of the user's items (those that the run's ``fit_share`` keeps
out of the labels), with the very prompts of the run, and writes each as a folder that vLLM loads. BASE is the folder of
a checkpoint where the run's model is not in the hub's cache.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

from bestfor.errors import BestforError
from bestfor.policies.adapters import LoraSettings, export, train_adapters
from bestfor.policies.transformers import TransformersPolicy
from bestfor.runs.adapters import training_examples
from bestfor.runs.build import prompting_of
from bestfor.runs.config import load_config
from bestfor.runs.sources import histories_dataset

SETTINGS = LoraSettings(rank=8, alpha=16.0, steps=40, shared_steps=0, rate=2e-4, dtype="bfloat16")


def main(run: str, out: str, base: str = "", settings: LoraSettings = SETTINGS) -> list[str]:
    """Train what is not there yet, export it, and say how it is served.

    Returns:
        The users with an adapter.
    """
    config = load_config(run)
    data = histories_dataset(config)
    checkpoint = base or config.policy.model
    policy = TransformersPolicy(checkpoint, max_new_tokens=config.policy.max_new_tokens)
    examples = training_examples(policy, data, config.policy.fit_share, prompting_of(config, data))
    trained, served = Path(out) / "trained", Path(out) / "served"
    train_adapters(checkpoint, examples, trained, settings)
    for user in sorted(examples):
        export(trained, user, served / quote(user, safe=""), base=checkpoint)
    variables = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=true VLLM_PLUGINS=lora_filesystem_resolver"
    options = f"--served-model-name {config.policy.model} --enable-lora --max-lora-rank {settings.rank}"
    print(f"{len(examples)} adapters in {served}. Serve them with:")  # noqa: T201 (a script)
    print(f"{variables} VLLM_LORA_RESOLVER_CACHE_DIR={served} vllm serve {checkpoint} {options}")  # noqa: T201
    return sorted(examples)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BestforError as error:
        sys.exit(str(error))
