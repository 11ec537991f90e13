"""Run language models for policies and reward models alike.

``location`` finds checkpoints, ``loading`` loads them and probes what they can do, ``chat`` turns queries into prompts.
``sampling`` and ``checkpoint`` draw candidates; ``packing``, ``states`` and ``passes`` read candidates and give a state
for each. ``adapters`` attaches users' low-rank updates to a running model, ``adapter_files`` keeps them on disk.
``batching`` holds the constants by which pools are keyed. ``location``, ``batching`` and ``chat`` need no torch.
"""
