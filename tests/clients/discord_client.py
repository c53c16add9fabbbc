"""Holds the suite's stand-in for Discord against discord.py: what that reads and sends, gatelet may rely on.

usage: discord_client.py API_ROOT TOKEN
Somebody has written `hi` directly; it is answered with `echo: hi`, and the connection is then resumed once.
"""

import asyncio
import sys

import discord
import yarl

ROOT, TOKEN = sys.argv[1:]
discord.http.Route.BASE = ROOT
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(ROOT.replace("http", "ws", 1).split("/api")[0])


class Client(discord.Client):
    resumed = False

    async def on_message(self, message):
        assert isinstance(message.channel, discord.DMChannel) and message.guild is None, message
        sent = await message.channel.send(f"echo: {message.content}", nonce="n-1")
        assert sent.author.id == self.user.id, sent
        async with message.channel.typing():
            pass
        await self.ws.close(4000)  # it resumes by itself

    async def on_resumed(self):
        self.resumed = True
        await self.close()


async def main():
    intents = discord.Intents(dm_messages=True, guild_messages=True, message_content=True)
    client = Client(intents=intents, max_messages=None)
    try:
        await client.login("wrong")
        raise AssertionError("a wrong token is taken")
    except discord.LoginFailure:
        pass
    client = Client(intents=intents, max_messages=None)
    await asyncio.wait_for(client.start(TOKEN), 40)
    assert client.resumed, "the session was not resumed"


asyncio.run(main())
