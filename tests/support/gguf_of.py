"""The shipped model in llama.cpp's file format."""

import json

_WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def convert(folder, path):
    """Write a checkpoint of Qwen3 architecture with a byte-level BPE as one .gguf file in float32."""
    import gguf
    import torch
    from safetensors.torch import load_file

    shape = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(shape["max_position_embeddings"])
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_attention_heads"])
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    writer.add_rope_freq_base(shape["rope_parameters"]["rope_theta"])
    _words(writer, folder, shape)
    for name, weight in load_file(folder / "model.safetensors").items():
        if name != "lm_head.weight":
            writer.add_tensor(_name(name), weight.to(torch.float32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _words(writer, folder, shape):
    import gguf

    read = json.loads((folder / "tokenizer.json").read_text())
    special = {one["id"]: one["content"] for one in read["added_tokens"]}
    named = {number: token for token, number in read["model"]["vocab"].items()} | special
    numbers = range(shape["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([named.get(number, f"[unused {number}]") for number in numbers])
    kinds = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    writer.add_token_types([kinds[number not in special] for number in numbers])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in read["model"]["merges"]])
    writer.add_eos_token_id(shape["eos_token_id"])
    writer.add_pad_token_id(shape["pad_token_id"])
    writer.add_add_bos_token(False)
    # The tokenizer puts a space before each text; llama.cpp's byte-level BPE does not.
    template = (folder / "chat_template.jinja").read_text()
    writer.add_chat_template(template.replace("message['content']", "' ' + message['content']"))


def _name(name):
    if name in _WHOLE:
        return _WHOLE[name]
    _, _, layer, *part, _ = name.split(".")
    return f"blk.{layer}.{_PARTS['.'.join(part)]}.weight"
