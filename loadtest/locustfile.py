"""
Locust users that send generated requests and check every answer.

    python -m loadtest seed --ids 100000
    python -m loadtest run --headless -u 20 -r 20 -t 30s --host URL --ids 100000

A wrong answer is a failure, whatever its status. Late answers, within the service's promise, are
listed apart, as `late: out_of_time` and so on.

Locust patches sockets and threads with gevent on import, so no other module imports Locust or this
module.
"""

from argparse import ArgumentParser
from itertools import count
from typing import Any

from locust import FastHttpUser, constant, events, task

from loadtest.answers import Answer, Verdict, judge
from loadtest.population import Population
from loadtest.traffic import Traffic, expectation

_INDEXES_PER_USER = 10**9
_user_numbers = count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator] # Locust's
def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--ids", type=int, default=100_000, help="the same as for seed")
    parser.add_argument("--segments-per-id", type=int, default=5, help="the same as for seed")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other traffic")


class Exchange(FastHttpUser):
    """An exchange's connection: sends the next bid request as soon as the last is answered."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Choose this user's own part of the traffic."""
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
                response.failure(judgement.why)
            elif judgement.verdict is Verdict.LATE:
                response.request_meta["name"] = f"late: {judgement.why}"
                response.success()
            else:
                response.success()


def _answer(response: Any) -> Answer:
    headers = response.headers or {}
    return Answer(
        response.status_code, headers.get("X-Enrich-Outcome") or "", response.content or b""
    )
