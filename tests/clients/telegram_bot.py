"""Talks to the suite's fake of Telegram with the PyPI `python-telegram-bot`, as its users do. Exit 0: the fake is read as the service.

usage: telegram_bot.py API_ROOT TOKEN
Two private messages ("first", "second") and one in a group wait.
"""

import asyncio
import sys

from telegram import Bot
from telegram.error import BadRequest, Conflict, InvalidToken, RetryAfter

ROOT, TOKEN = sys.argv[1], sys.argv[2]


async def fails(kind, call):
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def main():
    async with Bot(TOKEN, base_url=f"{ROOT}/bot") as bot:
        me = await bot.get_me()
        assert (me.id, me.username, me.is_bot) == (4242, "GateBot", True), me
        updates = await bot.get_updates(timeout=0, allowed_updates=["message"])
        assert [u.message.text for u in updates] == ["first", "second", "in a group"], updates
        assert updates[0].message.chat.type == "private" and updates[2].message.chat.type == "supergroup", updates
        assert [u.update_id for u in await bot.get_updates()] == [u.update_id for u in updates], "nothing was confirmed"
        one = await bot.get_updates(offset=updates[0].update_id + 1, limit=1)
        assert [u.message.text for u in one] == ["second"], one
        assert await bot.get_updates(offset=updates[2].update_id + 1) == ()
        held = asyncio.create_task(bot.get_updates(timeout=10))
        await asyncio.sleep(0.5)
        async with Bot(TOKEN, base_url=f"{ROOT}/bot") as other:  # another program
            assert await other.get_updates(timeout=0) == ()
        await fails(Conflict, held)
        sent = await bot.send_message(7, "<b>hi</b>", parse_mode="HTML")
        assert sent.chat.id == 7 and sent.message_id > 0, sent
        assert await bot.send_chat_action(7, "typing")
        assert (await bot.edit_message_text("new", chat_id=7, message_id=sent.message_id)).text == "new"
        assert (await bot.get_file("f1")).file_path.endswith("documents/f1")
        assert "parse entities" in str(await fails(BadRequest, bot.send_message(7, "<b>open", parse_mode="HTML")))
        assert "too long" in str(await fails(BadRequest, bot.send_message(7, "x" * 4097)))
        late = await fails(RetryAfter, bot.send_message(7, "too fast"))  # told beforehand to refuse this text's call
        assert int(late.retry_after if isinstance(late.retry_after, int) else late.retry_after.total_seconds()) == 3, late
    await fails(InvalidToken, Bot("1:wrong-token", base_url=f"{ROOT}/bot").initialize())


asyncio.run(main())
