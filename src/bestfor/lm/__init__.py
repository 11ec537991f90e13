"""Run language models for policies and reward models alike: checkpoints, chats, packing, sampling, adapters."""
