"""Find a checkpoint without torch: the shipped model, a folder, or the hub's local cache; and hash its files."""

from __future__ import annotations

from pathlib import Path

from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.files import hash_file, hash_parts
from bestfor.local_models import SHIPPED, find_model, how_to_get

EMBEDDED = SHIPPED
"""The name of the small model that is shipped with the package."""
SERVED = "local:"
"""What begins the address of a server on this machine, in ``base_url``."""


def locate(model: str | Path, what: str = "policy") -> Path:
    """Find a checkpoint's folder: shipped, local, fetched, or in the hub's local cache (filled where there is a net).

    Args:
        model: ``"embedded"``, a folder, a model that ``bestfor models`` fetched or converted, or a hub name.
        what: who needs it, for errors.

    Raises:
        InputError: it is nowhere; the message says how to get it.
    """
    if str(model) == EMBEDDED:
        folder = Path(__file__).resolve().parent.parent / "assets" / "policy"
        if not (folder / "config.json").is_file():
            raise InputError(f"{what} 'embedded'", f"no model in {folder}", "the package with its assets: reinstall it")
        return folder
    if str(model).startswith(SERVED):
        raise InputError(
            f"{what} '{model}'", "the address of a server", f"the model's own name, '{str(model)[len(SERVED) :]}'"
        )
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{what} '{model}'", "a folder without config.json", "a checkpoint saved by transformers")
        return folder
    fetched, command = find_model(str(model)), how_to_get(str(model))
    if fetched is not None:
        return fetched
    if command is not None:
        raise InputError(f"{what} '{model}'", "no such model on this machine", f"it after '{command}'")
    return _from_hub(str(model), what)


def _from_hub(name: str, what: str) -> Path:
    hub, errors = require("huggingface_hub", "models"), require("huggingface_hub.errors", "models")
    cache = require("huggingface_hub.constants", "models").HF_HUB_CACHE
    kinds = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model"]
    expected = (
        f"a folder, 'embedded', or a model of the hub's cache: run 'hf download {name}' where there is a network "
        f"and copy it to {cache}, or give the path of a folder"
    )
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError(f"{what} '{name}'", "no such folder", expected)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=kinds))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise InputError(f"{what} '{name}'", f"no such checkpoint ({type(error).__name__})", expected) from error


def fingerprint(folder: Path) -> str:
    """Hash the files that decide what a checkpoint writes; notes on its training are none of them."""
    kinds = ("model*.safetensors*", "*config.json", "token*.json", "*tokens*.json", "vocab*", "merges*", "*.jinja")
    paths = sorted({path for kind in kinds for path in folder.glob(kind)} | {*folder.glob("tokenizer.model")})
    return hash_parts(f"{path.name}:{hash_file(path)}\n".encode() for path in paths)
