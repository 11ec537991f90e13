"""Client of OpenAI-compatible servers: policies, metrics and judges share its retries, its budget and its secrets."""

from bestfor.endpoint.address import OPENAI, Address
from bestfor.endpoint.budget import Budget, Usage
from bestfor.endpoint.chat import Chat
from bestfor.endpoint.client import Endpoint, EndpointConfig
from bestfor.endpoint.failures import BudgetSpentError, EndpointError, RefusedError
from bestfor.endpoint.group import EndpointGroup, connect
from bestfor.endpoint.tables import EndpointTable

__all__ = [
    "OPENAI",
    "Address",
    "Budget",
    "BudgetSpentError",
    "Chat",
    "Endpoint",
    "EndpointConfig",
    "EndpointError",
    "EndpointGroup",
    "EndpointTable",
    "RefusedError",
    "Usage",
    "connect",
]
