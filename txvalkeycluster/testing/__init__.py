"""What tests of an application need: real clusters on this machine, and scripted nodes that misbehave.

Real ones need the extra ``embedded``, or a valkey-server on PATH.
"""

from .cluster import LocalCluster, Server
from .scripted import CLOSE, SILENCE, USUAL, ScriptedCluster, ScriptedNode, few_commands

__all__ = [
    "CLOSE",
    "SILENCE",
    "USUAL",
    "LocalCluster",
    "ScriptedCluster",
    "ScriptedNode",
    "Server",
    "few_commands",
]
