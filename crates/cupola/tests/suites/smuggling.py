"""Runs every smuggling case against our router, nginx and HAProxy, and prints the comparison; only ours is judged.

What decides is the byte log of the backend, read by a strict parser (strict.py) that is nobody's but this suite's. After each case
two canaries ask whether connections still agree: one on the client's own connection, one on a new connection (and so, with
keep-alive, on the backend's used one).
"""

import argparse
import re
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import h2wire
import peers
import smuggling_framing
import smuggling_h2
import smuggling_heads
import strict
from case import FORWARDED, REFUSED
from recorder import Recorder

LANES = 6


class Client:
    """A client that sends raw bytes and reads responses."""

    def __init__(self, port, method="GET"):
        """Connects. `method` is that of the first request, and determines the end of its response."""
        self.method = method
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data, self.closed, self.lost = b"", False, False

    def send(self, raw):
        """Sends bytes. A router that refuses early may close before all of them are sent."""
        try:
            self.socket.settimeout(20)
            self.socket.sendall(raw)
        except OSError:
            self.lost = True

    def finals(self):
        """Returns (final responses so far, whether the bytes are well-formed responses)."""
        found, at = [], 0
        while at < len(self.data):
            try:
                message, at = strict.response(self.data, at, "GET" if found else self.method, self.closed)
            except strict.Incomplete:
                return found, True
            except strict.Malformed:
                return found, False
            if message.status >= 200:
                found.append(message)
        return found, True

    def read(self, count, seconds):
        """Reads until there are `count` final responses, the peer closes, or the time is over."""
        end = time.monotonic() + seconds
        while not self.closed and (left := end - time.monotonic()) > 0 and len(self.finals()[0]) < count:
            self._more(left)

    def _more(self, seconds):
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        except OSError:
            data = b""
        self.data += data
        self.closed = not data


class Lane:
    """One backend behind one host of a proxy; a lane runs one case at a time."""

    def __init__(self, host, http, https, backend):
        self.host, self.http, self.https, self.backend = host, http, https, backend


class Outcome:
    def __init__(self):
        self.requests, self.unsafe, self.wrong, self.seen = [], [], [], ""

    @property
    def word(self):
        return "AMBIGUOUS" if self.unsafe else "forwarded" if self.requests else "refused"


def run(case, lane, patience, number, context):
    lane.backend.take()
    outcome = Outcome()
    if callable(case.raw):
        over_h2(case, lane, patience, number, context, outcome)
    else:
        over_h1(case, lane, patience, number, outcome)
    fresh(lane, f"/fresh-{number}", patience, outcome)
    look_at_backend(case, lane, patience, number, outcome)
    return outcome


def over_h1(case, lane, patience, number, outcome):
    client = Client(lane.http, "HEAD" if case.raw.startswith(b"HEAD") else "GET")
    host = lane.host.encode()
    client.send(case.raw.replace(b"$U", host.upper()).replace(b"$H", host))
    expected = 1 if case.must == REFUSED else len(case.targets)
    client.read(expected, 0.3 if case.waits else patience)
    answers, sane = client.finals()
    outcome.seen = f"{[a.status for a in answers]}{' closed' if client.closed else ''}"
    if not sane:
        outcome.unsafe.append(f"an answer that is none: {client.data[-200:]!r}")
    if not answers and not client.closed and not client.lost and not case.waits:
        outcome.wrong.append("neither an answer nor a close")
    if not case.waits and not client.closed and not client.lost:
        canary(client, lane, f"/canary-{number}", len(answers), patience, outcome)
    client.socket.close()


def canary(client, lane, target, before, patience, outcome):
    client.send(f"GET {target} HTTP/1.1\r\nHost: {lane.host}\r\n\r\n".encode())
    deadline = time.monotonic() + max(patience, 2)
    while time.monotonic() < deadline and not client.closed:
        answers = client.finals()[0]
        if any(target in a.body.decode("latin-1") for a in answers) or (len(answers) > before and answers[-1].status >= 400):
            break
        client.read(len(answers) + 1, 0.5)
    answers, sane = client.finals()
    late = answers[before:]
    for answer in late:
        if answer.status == 200 and f"target={target} " not in answer.body.decode("latin-1") and b"target=/smuggled" in answer.body:
            outcome.unsafe.append(f"the canary was answered with {answer.body!r}")
    if not sane:
        outcome.unsafe.append(f"after the canary: {client.data[-200:]!r}")
    if not late and not client.closed and not client.lost:
        outcome.wrong.append("the canary on the same connection got no answer, nor was the connection closed")


def over_h2(case, lane, patience, number, context, outcome):
    client = h2wire.Client(lane.https, context, lane.host)
    client.send(case.raw(lane.host))
    client.until(lambda: client.over(1) or client.goaway, patience)
    stream = client.stream(1)
    outcome.seen = f"{stream.status or stream.reset or (client.goaway and client.goaway.code()) or ('closed' if client.closed else None)}"
    if stream.status is None and stream.reset is None and not client.goaway and not client.closed:
        outcome.wrong.append("no answer, no reset, no GOAWAY")
    if not client.closed and not client.goaway:
        target = f"/canary-{number}"
        client.send(h2wire.headers(3, h2wire.request(lane.host, target)))
        client.until(lambda: client.over(3) or client.goaway, max(patience, 2))
        body = client.stream(3).body.decode("latin-1")
        if client.stream(3).status == 200 and f"target={target} " not in body:
            outcome.unsafe.append(f"the canary was answered with {body!r}")
    client.close()


def fresh(lane, target, patience, outcome):
    """Sends a request of a new client after the case: no bytes of the case may be left on the backend's connection."""
    client = Client(lane.http)
    client.send(f"GET {target} HTTP/1.1\r\nHost: {lane.host}\r\n\r\n".encode())
    client.read(1, max(patience, 5))
    answers, _ = client.finals()
    client.socket.close()
    if len(answers) != 1 or answers[0].status != 200 or f"target={target} " not in answers[0].body.decode("latin-1"):
        outcome.unsafe.append(f"the next client got {client.data[:200]!r}")


def look_at_backend(case, lane, patience, number, outcome):
    taken = lane.backend.take()
    deadline = time.monotonic() + max(patience, 2)
    while any(state == "incomplete" and not closed for _, _, state, closed, _ in taken) and time.monotonic() < deadline:
        time.sleep(0.02)  # a refused request's backend connection is about to be closed
        found = [(n, requests, "clean", closed, raw) for n, requests, _, closed, raw in taken if requests]
        taken = found + lane.backend.take()
    for _, requests, state, closed, raw in taken:
        own = [r for r in requests if not r.target.endswith(f"-{number}")]
        outcome.requests += own
        if state == "incomplete" and not closed:
            outcome.wrong.append(f"half a request stays on an open backend connection: {raw[-200:]!r}")
        elif state not in ("clean", "incomplete"):
            outcome.unsafe.append(f"the backend got: {state}; {raw[:300]!r}")
    targets = [origin_form(r, outcome) for r in outcome.requests]
    for target in targets:
        if target not in case.targets:
            outcome.unsafe.append(f"the backend got a request for {target[:100]!r} of its own")
    if Counter(targets) - Counter(case.targets):
        outcome.unsafe.append(f"the backend got {targets}")
    for request in outcome.requests:
        host = (request.get("host") or "").split(":")[0].lower()
        if host != lane.host and lane.host.endswith(".test"):
            outcome.unsafe.append(f"the backend of {lane.host} got Host: {host}")
    judge(case, targets, outcome)


def origin_form(request, outcome):
    """Returns the target in origin form. HAProxy forwards the absolute form, which is unambiguous while the Host agrees."""
    match = re.fullmatch(r"https?://([^/?]*)(.*)", request.target)
    if not match:
        return request.target
    outcome.wrong.append("the backend got the absolute form")
    if match[1].lower() != (request.get("host") or "").lower():
        outcome.unsafe.append(f"{request.target!r}, but Host: {request.get('host')}")
    return match[2] if match[2].startswith("/") else "/" + match[2]


def judge(case, targets, outcome):
    first = outcome.requests[targets.index(case.targets[0])] if case.targets[0] in targets else None
    if case.must == REFUSED and outcome.requests:
        outcome.wrong.append(f"must be refused, but {targets} was forwarded")
    if case.must == FORWARDED and sorted(targets) != sorted(case.targets):
        outcome.wrong.append(f"must forward {list(case.targets)}, forwarded {targets}; the client saw {outcome.seen}")
    if first is not None:
        if case.body is not None and first.body != case.body:
            outcome.unsafe.append(f"the body became {first.body[:100]!r}")
        if case.check and (problem := case.check(first)):
            outcome.wrong.append(problem)
        if any(name.lower() == "x-evil" for name in first.names()):
            outcome.unsafe.append("an injected header reached the backend")


def run_all(name, lanes, cases, patience, context):
    """Runs all cases: each lane takes the next one. Returns the outcomes in the order of the cases."""
    free = list(lanes)

    def one(item):
        lane = free.pop()
        try:
            return run(item[1], lane, patience, f"{name}-{item[0]}", context)
        except OSError as error:
            outcome = Outcome()
            outcome.wrong.append(f"the connection could not be made: {error}")
            return outcome
        finally:
            free.append(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(one, enumerate(cases)))


def judge_can_refuse(cases):
    """Checks that the judge refuses the cases' own bytes, as a relay of bytes would forward them. Otherwise it proves nothing."""
    bad = [case for case in cases if case.must == REFUSED and isinstance(case.raw, bytes)]
    caught = sum(strict.requests(case.raw.replace(b"$H", b"lane.lab.test"))[1] != "clean" for case in bad)
    print(f"judge: {caught} of {len(bad)} HTTP/1 cases that must be refused are ambiguous as they are; the others break other rules")
    return caught >= 0.9 * len(bad)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cupola", required=True)
    parser.add_argument("--only", help="cases whose group or name contains this")
    parser.add_argument("--alone", action="store_true", help="without nginx and HAProxy")
    options = parser.parse_args()
    groups = smuggling_framing.CASES + smuggling_heads.CASES + smuggling_h2.CASES
    named = [(group, case) for group, table in groups for case in table if not options.only or options.only in f"{group}: {case.name}"]
    cases = [case for _, case in named]
    assert judge_can_refuse(cases) or options.only, "the strict parser lets through what it must not"
    certificates = peers.Certificates()
    context = certificates.client("h2")
    router = peers.Router(options.cupola, certificates)
    lanes = {"cupola": []}
    for n in range(LANES):
        backend, host = Recorder(), f"lane{n}.lab.test"
        router.register(host, backend.address)
        lanes["cupola"].append(Lane(host, router.http, router.https, backend))
    for kind in () if options.alone else (peers.Nginx, peers.Haproxy):
        backends = [Recorder() for _ in range(LANES)]
        peer = kind(certificates, [b.address for b in backends])
        lanes[peer.name] = [Lane(f"lane{n}.lab.test", peer.http[n], peer.https[n], backends[n]) for n in range(LANES)]
    started = time.monotonic()
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = {name: pool.submit(run_all, name, lanes[name], cases, 20 if name == "cupola" else 0.7, context) for name in lanes}
        outcomes = {name: future.result() for name, future in running.items()}
    report(named, outcomes, time.monotonic() - started)


def report(named, outcomes, seconds):
    names = list(outcomes)
    print(f"{'case':64}" + "".join(f"{name:11}" for name in names))
    failures = []
    for n, (group, case) in enumerate(named):
        row = [outcomes[name][n] for name in names]
        print(f"{group + ': ' + case.name:64.63}" + "".join(f"{o.word:11}" for o in row))
        ours = row[0]
        if ours.unsafe or ours.wrong:
            failures.append((group, case, ours))
    for name in names:
        counts = Counter(o.word for o in outcomes[name])
        print(f"{name}: {counts['refused']} refused, {counts['forwarded']} forwarded, {counts['AMBIGUOUS']} ambiguous")
    for group, case, ours in failures:
        print(f"\nFAILED {group}: {case.name} (must be {case.must}; the client saw {ours.seen})")
        if isinstance(case.raw, bytes):
            print(f"  sent: {case.raw[:200]!r}{'…' if len(case.raw) > 200 else ''}")
        for problem in ours.unsafe + ours.wrong:
            print(f"  {problem}")
    print(f"smuggling: {len(named)} cases, {len(named) - len(failures)} passed, {len(failures)} failed, {seconds:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
