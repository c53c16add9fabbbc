"""An MCP server made with the official Python SDK, for the tests of gatelet's client.

Usage: mcp_server.py stdio | http
Over HTTP it listens on a port of the kernel's choosing, prints it, and ends when its standard input is closed.
"""

import asyncio
import os
import socket
import sys
import threading
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

server = MCPServer("gatelet-tests")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def where(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Says a region back, which the head of the request has to name, too."""
    return f"in {region}"


@server.tool()
async def slow(seconds: float, mark: str = "") -> str:
    """Takes its time. With `mark`, makes that file when it was cancelled."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if mark:
            open(mark, "w").close()
        raise
    return "done"


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("it is Monday")


@server.tool()
async def grow(ctx: Context) -> str:
    """Adds a tool, and tells that."""

    def extra() -> str:
        """Was not there before."""
        return "extra"

    server.add_tool(extra)
    await ctx.notify_tools_changed()
    return "grown"


@server.tool()
def crash() -> str:
    """Ends the process."""
    os._exit(3)


def serve_http() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    http = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning"))

    def end_with_input() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    asyncio.run(http.serve(sockets=[listener]))


if sys.argv[1:] == ["http"]:
    serve_http()
else:
    server.run("stdio")
