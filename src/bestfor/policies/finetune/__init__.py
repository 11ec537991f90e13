"""Fine-tune a small causal language model to write as users wrote."""

from bestfor.policies.finetune.fit import Corpus, Finetune, Size, finetune, main, world_corpora

__all__ = ["Corpus", "Finetune", "Size", "finetune", "main", "world_corpora"]
