"""The one OpenAI-compatible client: policies, metrics and judges share its retries, its budget and its discretion."""

from bestfor.endpoint.address import OPENAI, Address
from bestfor.endpoint.budget import Budget, Usage
from bestfor.endpoint.client import Endpoint, EndpointConfig
from bestfor.endpoint.failures import BudgetSpentError, EndpointError, RefusedError

__all__ = [
    "OPENAI",
    "Address",
    "Budget",
    "BudgetSpentError",
    "Endpoint",
    "EndpointConfig",
    "EndpointError",
    "RefusedError",
    "Usage",
]
