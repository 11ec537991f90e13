"""Get the candidates of a request: from an OpenAI-compatible server, or from a policy in this process."""

from bestfor.gateway.upstream.batch import Asked, Batch, Came, Fault, Upstream

__all__ = ["Asked", "Batch", "Came", "Fault", "Upstream"]
