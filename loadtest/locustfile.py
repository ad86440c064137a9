"""
Locust users that send generated requests and check every answer.

    python -m loadtest seed --ids 100000
    python -m loadtest run --headless -u 20 -r 20 -t 30s --host URL --ids 100000

A wrong answer is a failure, whatever its status; failures of a kind are one line, with their first
request. A late answer is none, because the service promises no more: the statistics list it apart,
as `late: out_of_time` and so on. But a run in which no answer was enriched in time fails.

Locust patches sockets and threads with gevent on import, so no other module of `loadtest` imports
Locust or this module.
"""

import re
from argparse import ArgumentParser
from itertools import count
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task

from loadtest.answers import Answer, Verdict, judge
from loadtest.population import Population
from loadtest.traffic import Traffic, expectation
from rtb.outcome import Outcome

_INDEXES_PER_USER = 10**9
_user_numbers = count()
_SIZE = re.compile(r"(?<!status )(?<!not )\b\d+")
"""A number that differs from request to request; a status is none."""

_kind_to_first: dict[str, str] = {}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator] # Locust's
def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--ids", type=int, default=100_000, help="the same as for seed")
    parser.add_argument("--segments-per-id", type=int, default=5, help="the same as for seed")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other traffic")
    parser.add_argument(
        "--rate", type=float, help="requests per second of all users; default: as many as go"
    )


@events.quitting.add_listener  # type: ignore[untyped-decorator] # Locust's
def _decide(environment: Any, **_: Any) -> None:
    entries = environment.stats.entries.values()
    enriched = sum(
        each.num_requests - each.num_failures
        for each in entries
        if each.name == Outcome.ENRICHED.value
    )
    if environment.stats.total.num_requests and not enriched:
        print("no answer was enriched in time: is the service seeded, with the same --ids?")
        environment.process_exit_code = 1


class Exchange(FastHttpUser):
    """An exchange's connection: sends bid requests sequentially."""

    def wait_time(self) -> float:
        """Return the pause before the next request: a user's share of `--rate`."""
        options = self.environment.parsed_options
        if options.rate is None:
            return 0.0
        per_user: float = constant_throughput(options.rate / options.num_users)(self)
        return per_user

    def on_start(self) -> None:
        """Choose this user's part of the traffic, different from all others'."""
        options = self.environment.parsed_options
        population = Population(options.ids, options.segments_per_id)
        # Locust may run in several processes, and on several machines.
        worker = getattr(self.environment.runner, "worker_index", 0)
        user = worker * 1_000_000 + next(_user_numbers)
        self._traffic = Traffic(population, options.seed)
        self._indexes = count(user * _INDEXES_PER_USER)

    @task
    def bid_request(self) -> None:
        """Send a request and judge the answer."""
        request = self._traffic.request(next(self._indexes))
        due = expectation(request, self._traffic.population)
        with self.client.post(
            request.path,
            data=request.body,  # type: ignore[arg-type] # bytes leave as they are
            headers={"Content-Type": "application/json", "x-openrtb-version": "2.6"},
            name=due.outcome.value,
            catch_response=True,
        ) as response:
            judgement = judge(request, due, _answer(response))
            if judgement.verdict is Verdict.WRONG:
                response.failure(_kind_of(judgement.why))
            elif judgement.verdict is Verdict.LATE:
                response.request_meta["name"] = f"late: {judgement.why}"
                response.success()
            else:
                response.success()


def _kind_of(why: str) -> str:
    """Return a wrong answer's kind with its first example: Locust counts by text."""
    kind = _SIZE.sub("N", why.partition(": ")[2])
    return f"{kind} (first: {_kind_to_first.setdefault(kind, why)})"


def _answer(response: Any) -> Answer:
    headers = response.headers or {}
    return Answer(
        response.status_code, headers.get("X-Enrich-Outcome") or "", response.content or b""
    )
