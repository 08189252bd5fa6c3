"""Defines what an HTTP/2 conformance case expects, and how that is checked."""

from h2wire import END_HEADERS, END_STREAM, GOAWAY, HEADERS, block, frame, headers, request

HOST = "h2.lab.test"


def ask(stream=1, path="/echo", method="GET", more=(), flags=END_STREAM | END_HEADERS, **parts):
    """Returns a well-formed request in one HEADERS frame."""
    return headers(stream, request(HOST, path, method, more=more, **parts), flags)


def opened(stream=1, path="/echo", more=()):
    """Returns a POST whose body is still to come."""
    return ask(stream, path, "POST", more, END_HEADERS)


def fields(path="/echo", method="GET", more=()):
    return block(request(HOST, path, method, more=more))


class Expect:
    """An expectation: `check(client)` returns what is wrong, or None."""


class Connection(Expect):
    """A connection error of one of these codes: GOAWAY, or the connection closed at once."""

    def __init__(self, *codes):
        self.codes = codes

    def check(self, client):
        client.until(lambda: client.goaway and client.goaway.code() != "NO_ERROR")
        if client.goaway and client.goaway.code() != "NO_ERROR":
            if client.goaway.code() not in self.codes:
                return f"GOAWAY {client.goaway.code()}, expected {' or '.join(self.codes)}"
            client.until(lambda: False, 10)
            return None if client.closed else "GOAWAY, but the connection stays open"
        return None if client.closed else f"no connection error {' or '.join(self.codes)}; frames: {client.frames[-4:]}"


class OnStream(Expect):
    """A stream error of one of these codes: RST_STREAM, or for a malformed request a status of 400 or more. The connection lives."""

    def __init__(self, *codes, stream=1, answer=False, connection=False):
        self.codes, self.number, self.answer, self.connection = codes, stream, answer, connection

    def check(self, client):
        stream = client.stream(self.number)
        client.until(lambda: stream.reset or client.goaway or (self.answer and stream.ended))
        if stream.reset:
            if stream.reset not in self.codes:
                return f"RST_STREAM {stream.reset}, expected {' or '.join(self.codes)}"
        elif self.answer and stream.ended and (stream.status or 0) >= 400:
            pass
        elif self.connection and (client.goaway or client.closed):
            return Connection(*self.codes).check(client)
        else:
            return f"no stream error; status {stream.status}, {client.frames[-4:]}"
        return alive(client)


class Either(Expect):
    """One of several expectations, because the RFC lets the server choose."""

    def __init__(self, *choices):
        self.choices = choices

    def check(self, client):
        problems = []
        for choice in self.choices:
            problem = choice.check(client)
            if problem is None:
                return None
            problems.append(problem)
        return " / ".join(problems)


class Answered(Expect):
    """These streams are answered with this status, and the connection lives."""

    def __init__(self, *streams, status=200, then=None):
        self.streams, self.status, self.then = streams or (1,), status, then

    def check(self, client):
        for number in self.streams:
            stream = client.stream(number)
            client.until(lambda: client.over(number) or (client.goaway and client.goaway.code() != "NO_ERROR"), 20)
            if stream.status != self.status or not stream.ended or stream.reset not in (None, "NO_ERROR"):
                return f"stream {number}: status {stream.status}, ended {stream.ended}, reset {stream.reset}; {client.frames[-4:]}"
        return alive(client) or (self.then and self.then(client))


class Alive(Expect):
    """The expectation that nothing happens: the connection lives and continues to serve."""

    def check(self, client):
        return alive(client)


class That(Expect):
    """An expectation that a function of the client checks; it returns what is wrong."""

    def __init__(self, check):
        self.check = check


def alive(client):
    """Checks that the next request on this connection is served."""
    if client.goaway or client.closed:
        return f"the connection did not survive: {client.goaway or 'closed'}"
    client.next = getattr(client, "next", 1001) + 2
    number = client.next
    client.auto = True
    client.send(ask(number, "/alive", "HEAD"))  # without a body, whatever became of the windows
    client.until(lambda: client.over(number) or client.goaway, 20)
    got = client.stream(number)
    return None if got.status == 200 and got.ended else f"the next request got {got.status}, {got.reset}, {client.goaway}"


PROTOCOL, FLOW, SIZE, CLOSED, COMPRESSION = "PROTOCOL_ERROR", "FLOW_CONTROL_ERROR", "FRAME_SIZE_ERROR", "STREAM_CLOSED", "COMPRESSION_ERROR"
REFUSED_STREAM, CALM = "REFUSED_STREAM", "ENHANCE_YOUR_CALM"


class Case:
    def __init__(self, section, name, act, expect, **how):
        """Stores the case. `act` is the bytes to send or a function of the client; `how` contains arguments of h2wire.Client."""
        self.section, self.name, self.act, self.expect, self.how = section, name, act, expect, how

    def run(self, client):
        if callable(self.act):
            problem = self.act(client)
            if problem:
                return problem
        else:
            client.send(self.act)
        return self.expect.check(client)


def last(client, kind=HEADERS):
    return [f for f in client.frames if f.kind == kind]


__all__ = [name for name in dir() if not name.startswith("_")] + ["frame", "GOAWAY"]
