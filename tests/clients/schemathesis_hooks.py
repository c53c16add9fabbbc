"""Hooks for schemathesis, which makes requests of what /openapi.json describes, good ones and bad ones, and looks at the answers.

Each request comes from an address of its own (the gateway under test trusts us as its proxy), so that the wrong credentials it
tries don't count together. A change of the configuration is asked for as a dry run: it is read and checked as any other, and
does not replace the configuration under which the other requests are made. A cursor that no list gave is left out: what makes
one is not for the description to say. Channels are those that there are.
"""

import itertools

import requests
import schemathesis

NUMBERS = itertools.count(1)
SEND = requests.Session.send


def send(session, request, **options):
    number = next(NUMBERS)
    request.headers["X-Forwarded-For"] = f"198.18.{number >> 8 & 255}.{number & 255}"
    return SEND(session, request, **options)


# On the wire alone: schemathesis has to go on believing that it sends what it made.
requests.Session.send = send


@schemathesis.hook
def before_call(context, case, kwargs):
    for name in ("channel", "name"):
        if name in (case.path_parameters or {}):
            case.path_parameters = {name: "default"}
    is_change = case.operation.path == "/api/config" and case.operation.method.upper() in ("PUT", "PATCH")
    query = dict(case.query or {})
    if query.pop("cursor", None) is not None or is_change:
        case.query = {**query, "dryRun": "true"} if is_change else query
